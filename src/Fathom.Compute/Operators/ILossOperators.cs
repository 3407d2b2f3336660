// Cross-entropy over the vocabulary, with the gradient written over the logits: there is never a second copy of them.

namespace Fathom.Compute.Operators;

/// <summary>Softmax cross-entropy, in nats. M rows of V logits, F32.</summary>
public interface ILossOperators
{
    /// <summary>Loss of each row, whether its largest logit is the target's, and optionally the gradient in place of the logits.</summary>
    /// <param name="logits">[M, V]; overwritten with (softmax - onehot(target)) · gradientScale where that is not zero.</param>
    /// <param name="targets">[M], I32; a negative target is ignored: loss 0, gradient 0.</param>
    /// <param name="gradientScale">Derivative of the total loss by a row's loss; zero leaves the logits as they are.</param>
    /// <param name="losses">[M]: log Σ exp(logits) - logits[target].</param>
    /// <param name="correct">[M], I32: 1 where the first largest logit is the target's, else 0. May be empty.</param>
    void CrossEntropy(Tensor logits, Tensor targets, float gradientScale, Tensor losses, Tensor correct);
}
