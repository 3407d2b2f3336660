namespace Fathom.Compute;

/// <summary>What memory is held for; every allocation is counted under one of these.</summary>
public enum MemoryKind
{
    /// <summary>Parameters.</summary>
    Weights,

    /// <summary>Copies of parameters in the format in which they are multiplied.</summary>
    WeightCopies,

    /// <summary>Accumulated gradients of parameters.</summary>
    Gradients,

    /// <summary>First and second moments.</summary>
    OptimizerMoments,

    /// <summary>Exponential moving average of the parameters, in host memory.</summary>
    Ema,

    /// <summary>What a forward pass keeps for its backward pass.</summary>
    Activations,

    /// <summary>What lives only within an operator or a layer.</summary>
    Workspace,

    /// <summary>Latent key-value cache.</summary>
    KeyValueCache,

    /// <summary>Batches, tables, positions.</summary>
    Inputs,
}
