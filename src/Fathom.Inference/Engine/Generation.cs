using System.Threading.Channels;
using Fathom.Numerics;

namespace Fathom.Inference;

/// <summary>
/// A text on its way, to be read once by one reader. The engine never waits for the reader: what is not read is kept. Disposing it, or
/// cancelling the token it was submitted with, ends it; its memory is free for others with the next step.
/// </summary>
public sealed class Generation : IAsyncEnumerable<GenerationPiece>, IDisposable
{
    private readonly Channel<GenerationPiece> pieces = Channel.CreateUnbounded<GenerationPiece>(new UnboundedChannelOptions { SingleReader = true, SingleWriter = true });
    private readonly TaskCompletionSource<GenerationResult> completion = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly Action wake;
    private CancellationTokenRegistration registration;

    internal Generation(long id, Action wake) => (Id, this.wake) = (id, wake);

    /// <summary>Number of the request within its engine.</summary>
    public long Id { get; }

    /// <summary>Whether computing has begun; before, the request waits.</summary>
    public bool HasStarted { get; internal set; }

    /// <summary>How it ended. Never faults; an error is part of the result.</summary>
    public Task<GenerationResult> Completion => completion.Task;

    internal bool IsCancelled { get; private set; }

    /// <summary>Ends the generation. What it brought until then stays to be read.</summary>
    public void Cancel()
    {
        IsCancelled = true;
        wake();
    }

    /// <summary>The pieces of the text as they come.</summary>
    /// <param name="cancellationToken">Ends the reading, not the generation.</param>
    /// <exception cref="FathomException">While reading: the generation failed.</exception>
    public IAsyncEnumerator<GenerationPiece> GetAsyncEnumerator(CancellationToken cancellationToken = default) =>
        pieces.Reader.ReadAllAsync(cancellationToken).GetAsyncEnumerator(cancellationToken);

    /// <summary>The whole text, when it has ended.</summary>
    /// <param name="cancellationToken">Ends the reading, not the generation.</param>
    /// <exception cref="FathomException">The generation failed.</exception>
    public async Task<string> ReadToEndAsync(CancellationToken cancellationToken = default)
    {
        var text = new System.Text.StringBuilder();
        await foreach (GenerationPiece piece in pieces.Reader.ReadAllAsync(cancellationToken).ConfigureAwait(false)) text.Append(piece.Text);
        return text.ToString();
    }

    /// <inheritdoc/>
    public void Dispose() => Cancel();

    internal void CancelWith(CancellationToken cancellation) => registration = cancellation.UnsafeRegister(static state => ((Generation)state!).Cancel(), this);

    internal void Emit(GenerationPiece piece) => pieces.Writer.TryWrite(piece);

    internal void End(GenerationResult result)
    {
        registration.Unregister();
        pieces.Writer.TryComplete(result.Error is null ? null : new FathomException(result.Error));
        completion.TrySetResult(result);
    }
}
