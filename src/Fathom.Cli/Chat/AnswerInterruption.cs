// Ctrl-C in a chat: while an answer is written it stops the answer; at the prompt the first one explains, the second leaves.
using System.Runtime.InteropServices;
using Fathom.Cli.Terminal;

namespace Fathom.Cli.Chat;

/// <summary>Gives each answer a token that Ctrl-C cancels.</summary>
internal sealed class AnswerInterruption : IDisposable
{
    private readonly PosixSignalRegistration registration;
    private CancellationTokenSource? answer;
    private bool explained;

    /// <summary>Registers for SIGINT.</summary>
    public AnswerInterruption() => registration = PosixSignalRegistration.Create(PosixSignal.SIGINT, Handle);

    /// <summary>Begins an answer.</summary>
    public CancellationToken Begin()
    {
        explained = false;
        CancellationTokenSource source = new();
        Volatile.Write(ref answer, source);
        return source.Token;
    }

    /// <summary>Ends an answer.</summary>
    public void End() => Interlocked.Exchange(ref answer, null)?.Dispose();

    /// <inheritdoc/>
    public void Dispose()
    {
        registration.Dispose();
        End();
    }

    private void Handle(PosixSignalContext context)
    {
        context.Cancel = true;
        try
        {
            if (Volatile.Read(ref answer) is { } source)
            {
                source.Cancel();
                return;
            }
        }
        catch (ObjectDisposedException)
        {
            return; // The answer ended at this moment.
        }

        if (explained) Environment.Exit(ExitCode.Success);
        explained = true;
        Console.Write("\n(/exit or Ctrl-C again leaves)\n> ");
    }
}
