using Fathom.Numerics;

namespace Fathom.Inference;

/// <summary>The queue is full, or the engine takes no more requests: try again later, or elsewhere.</summary>
/// <param name="message">What was refused.</param>
public sealed class EngineBusyException(string message) : FathomException(message);
