namespace Fathom.Model;

/// <summary>Which of a training run's weights to open.</summary>
public enum WeightSet
{
    /// <summary>Those of the last step: the exported model, or the newest checkpoint.</summary>
    Last,

    /// <summary>The newest checkpoint's moving average ([P] §3.2.3).</summary>
    Ema,
}
