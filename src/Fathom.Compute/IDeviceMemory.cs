namespace Fathom.Compute;

/// <summary>Marks the owner of memory that the processor cannot read or write: a tensor over it cannot be seen as a span.</summary>
public interface IDeviceMemory;
