// Ctrl-C and SIGTERM. The first asks the work to stop where nothing is lost; the second ends the process as if nothing had
// been registered. A checkpoint appears by a rename, so even that leaves the last one whole.
using System.Runtime.InteropServices;

namespace Fathom.Cli.Terminal;

/// <summary>Turns signals into a cancellation while it lives.</summary>
internal sealed class Interruption : IDisposable
{
    private readonly CancellationTokenSource source = new();
    private readonly PosixSignalRegistration[] registrations;

    /// <summary>Registers for the signals.</summary>
    public Interruption() => registrations =
        [PosixSignalRegistration.Create(PosixSignal.SIGINT, Handle), PosixSignalRegistration.Create(PosixSignal.SIGTERM, Handle)];

    /// <summary>Cancelled by the first signal.</summary>
    public CancellationToken Token => source.Token;

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (PosixSignalRegistration registration in registrations) registration.Dispose();
        source.Dispose();
    }

    private void Handle(PosixSignalContext context)
    {
        if (source.IsCancellationRequested) return;
        context.Cancel = true;
        source.Cancel();
    }
}
