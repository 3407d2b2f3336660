// What a layer is given with every call. A layer itself holds parameters only; what one micro-batch keeps for its backward pass
// lies in that micro-batch's context, so several can be in flight.
using Fathom.Compute;
using Fathom.Numerics;

namespace Fathom.Model;

/// <summary>Memory and positions of one micro-batch.</summary>
public sealed class LayerContext
{
    /// <summary>A context on a device.</summary>
    /// <param name="device">Where the layers run.</param>
    /// <param name="training">Whether a backward pass follows.</param>
    public LayerContext(Device device, bool training)
    {
        Device = device;
        Training = training;
        Saved = new Arena(device, training ? MemoryKind.Activations : MemoryKind.Workspace);
        Scratch = new Arena(device, MemoryKind.Workspace);
    }

    /// <summary>Where the layers run.</summary>
    public Device Device { get; }

    /// <summary>Whether a backward pass follows.</summary>
    public bool Training { get; }

    /// <summary>What is kept until the backward pass of the micro-batch.</summary>
    public Arena Saved { get; }

    /// <summary>What lives within a layer's call, and gradients between the two halves of a layer's backward pass.</summary>
    public Arena Scratch { get; }

    /// <summary>Sequences in the micro-batch, B.</summary>
    public int Batch { get; set; }

    /// <summary>Position of each token in its sequence, [M], I32.</summary>
    public Tensor Positions { get; set; }

    /// <summary>Number of tokens in the micro-batch, M.</summary>
    public long Tokens => Positions.Elements;

    /// <summary>A matrix of F32 in <see cref="Saved"/>.</summary>
    internal Tensor Save(long rows, long columns) => Saved.Take(new Shape(rows, columns));

    /// <summary>A matrix of F32 in <see cref="Scratch"/>.</summary>
    internal Tensor Temporary(long rows, long columns) => Scratch.Take(new Shape(rows, columns));

    /// <summary>A vector that only a backward pass reads: empty in inference.</summary>
    internal Tensor SaveForBackward(long elements, DType dtype = DType.F32) => Training ? Saved.Take(new Shape(elements), dtype) : default;
}
