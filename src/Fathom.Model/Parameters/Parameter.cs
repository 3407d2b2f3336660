// One named weight. In training it has F32 memory and a gradient beside it; in inference it is a view of a mapped checkpoint.
using Fathom.Compute;

namespace Fathom.Model;

/// <summary>A weight of the model under its published name.</summary>
public sealed class Parameter
{
    internal Parameter(string name, Tensor value, ParameterRole role, ExpertWeights? experts = null)
    {
        Name = name;
        Value = value;
        Role = role;
        Experts = experts;
    }

    /// <summary>
    /// The name in a checkpoint; for the stacked matrices of a layer's experts a pattern with {0} for the expert's number.
    /// </summary>
    public string Name { get; }

    /// <summary>The weights; [E, N, K] for stacked experts. Empty where experts lie apart (a mapped checkpoint).</summary>
    public Tensor Value { get; }

    /// <summary>The experts' matrices, for an expert parameter.</summary>
    public ExpertWeights? Experts { get; }

    /// <summary>What the parameter is to the optimizer.</summary>
    public ParameterRole Role { get; }

    /// <summary>Accumulated F32 gradient of the same shape; empty until <see cref="ParameterSet.AllocateGradients"/>.</summary>
    public Tensor Gradient { get; internal set; }

    /// <summary>The checkpoint's tensors that make up this parameter, with their memory.</summary>
    public IEnumerable<(string Name, Tensor Value)> CheckpointTensors() => Split(Value);

    /// <summary>Any tensor of the parameter's shape (a moment, an average), cut and named as <see cref="CheckpointTensors"/> does.</summary>
    public IEnumerable<(string Name, Tensor Value)> Split(Tensor like)
    {
        if (Experts is null)
        {
            yield return (Name, like);
            yield break;
        }

        for (int e = 0; e < Experts.Count; e++)
        {
            string name = ExpertName(Name, e);
            yield return (name, like.IsEmpty ? Experts[e].Elements : like.At(e));
        }
    }

    /// <summary>The checkpoint name of one expert's matrix.</summary>
    internal static string ExpertName(string pattern, int expert) =>
        pattern.Replace("{0}", expert.ToString(System.Globalization.CultureInfo.InvariantCulture), StringComparison.Ordinal);

    /// <inheritdoc/>
    public override string ToString() => $"{Name} {(Value.IsEmpty ? Experts![0] : Value)}";
}

/// <summary>What a parameter is to initialisation and optimizer.</summary>
public enum ParameterRole
{
    /// <summary>A matrix: normal initial values, weight decay.</summary>
    Matrix,

    /// <summary>A norm's weight: starts at one, no decay.</summary>
    NormWeight,

    /// <summary>A routing bias: starts at zero, has no gradient, is moved by the load after each step.</summary>
    RoutingBias,
}
