namespace Fathom.Training;

/// <summary>The loss or a gradient became infinite or NaN. The step has changed nothing; the last checkpoint stays good.</summary>
public sealed class NonFiniteLossException(long step, double loss, string where)
    : Exception(FormattableString.Invariant($"step {step}: the loss is {loss:G6}; the first value that is not finite is in {where}"))
{
    /// <summary>The step that failed.</summary>
    public long Step => step;

    /// <summary>The layer, activation or gradient where it began.</summary>
    public string Where => where;
}
