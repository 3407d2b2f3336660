// Logits and their cross-entropy, some rows at a time: the logits of a whole micro-batch (tokens x vocabulary) are never held. The
// gradients of hidden states and of the head's weight follow at once, while the piece is in the cache. Logits and their softmax are F32;
// where layers pass BF16 on, the products take the logits' gradients in BF16 too, as those of all other layers.
using Fathom.Compute;

namespace Fathom.Model;

/// <summary>The output head, shared by the main model and its MTP modules.</summary>
public sealed class OutputHead(Parameter weight)
{
    private const long RowsAtATime = 512;
    private readonly LinearLayer linear = new(weight, rounds: false);

    /// <summary>The weight, [V, D].</summary>
    public Parameter Weight => weight;

    /// <summary>logits = hidden wᵀ.</summary>
    /// <param name="context">The pass's memory.</param>
    /// <param name="hidden">[M, D], after the norm.</param>
    /// <param name="logits">[M, V].</param>
    public void Logits(LayerContext context, Tensor hidden, Tensor logits) => linear.Forward(context, hidden, logits);

    /// <summary>The loss of each row and, where <paramref name="gradientScale"/> is not zero, both gradients.</summary>
    /// <param name="context">The micro-batch.</param>
    /// <param name="hidden">[M, D], after the norm.</param>
    /// <param name="targets">[M], I32.</param>
    /// <param name="gradientScale">Derivative of the total loss by a row's loss.</param>
    /// <param name="dhidden">[M, D], overwritten (with zeros where the scale is zero); empty without gradients.</param>
    /// <param name="losses">[M].</param>
    /// <param name="correct">[M], I32.</param>
    public void Loss(
        LayerContext context, Tensor hidden, Tensor targets, float gradientScale, Tensor dhidden, Tensor losses, Tensor correct)
    {
        if (gradientScale == 0 && !dhidden.IsEmpty) context.Device.Reduction.Zero(dhidden);
        for (long start = 0; start < hidden.Rows; start += RowsAtATime)
        {
            long count = Math.Min(RowsAtATime, hidden.Rows - start);
            Arena.Mark mark = context.Scratch.Position;
            Tensor logits = context.Scratch.Take(new Shape(count, linear.Outputs)), x = hidden.Slice(start, count);
            linear.Forward(context, x, logits);
            context.Device.Loss.CrossEntropy(
                logits, targets.Slice(start, count), gradientScale, losses.Slice(start, count), correct.Slice(start, count));
            if (gradientScale != 0)
            {
                Tensor dlogits = context.ToFlow(logits);
                linear.BackwardInput(context, dlogits, dhidden.Slice(start, count));
                linear.BackwardWeight(context, dlogits, x);
            }

            context.Scratch.Release(mark);
        }
    }
}
