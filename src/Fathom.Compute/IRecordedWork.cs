namespace Fathom.Compute;

/// <summary>Work of a device that was recorded once (<see cref="Device.Record"/>): a decode step, whose some hundred operators would each be asked for anew.</summary>
public interface IRecordedWork : IDisposable
{
    /// <summary>Does the work again, over the same memory with what it now holds.</summary>
    void Replay();
}
