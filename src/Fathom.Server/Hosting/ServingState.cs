namespace Fathom.Server.Hosting;

/// <summary>What the server is doing.</summary>
internal enum ServingPhase
{
    /// <summary>The model warms up.</summary>
    Starting,

    /// <summary>Requests are answered.</summary>
    Ready,

    /// <summary>The warm-up failed: requests are answered where that works, but nobody should send any.</summary>
    Broken,

    /// <summary>What runs is finished, and nothing new is taken.</summary>
    Draining,
}

/// <summary>The state of the server, and how many requests are in it.</summary>
internal sealed class ServingState
{
    private int active;
    private volatile ServingPhase phase = ServingPhase.Starting;

    public ServingPhase Phase
    {
        get => phase;
        set => phase = value;
    }

    /// <summary>Requests in work.</summary>
    public int Active => Volatile.Read(ref active);

    /// <summary>Counts a request in, if there is room.</summary>
    public bool TryEnter(int most)
    {
        if (Interlocked.Increment(ref active) <= most) return true;
        Interlocked.Decrement(ref active);
        return false;
    }

    /// <summary>Counts a request out.</summary>
    public void Leave() => Interlocked.Decrement(ref active);
}
