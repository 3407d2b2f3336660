// `fathom serve` as a process of its own, as an operator runs it, with what the system says of it from outside: memory and open files.
using System.Diagnostics;
using System.Globalization;
using System.Text;
using Fathom.Numerics;

namespace Fathom.Cli.Benchmarks.Soak;

/// <summary>A server that runs until this is disposed.</summary>
internal sealed class SoakServer : IDisposable
{
    private static readonly TimeSpan StartLimit = TimeSpan.FromMinutes(2);
    private readonly Process process;

    private SoakServer(Process process, Uri address) => (this.process, Address) = (process, address);

    /// <summary>Where it listens.</summary>
    public Uri Address { get; }

    /// <summary>Bytes of its memory that are resident.</summary>
    public long ResidentBytes
    {
        get
        {
            process.Refresh();
            return process.HasExited ? 0 : process.WorkingSet64;
        }
    }

    /// <summary>Its open files, sockets among them; -1 where the system does not say.</summary>
    public int OpenFiles
    {
        get
        {
            try
            {
                return Directory.GetFileSystemEntries(string.Create(CultureInfo.InvariantCulture, $"/proc/{process.Id}/fd")).Length;
            }
            catch (Exception error) when (error is IOException or UnauthorizedAccessException)
            {
                return -1;
            }
        }
    }

    /// <summary>Starts a server on a free port.</summary>
    /// <param name="arguments">Of <c>fathom serve</c>, without the port.</param>
    /// <param name="cancellation">Ends the start.</param>
    /// <exception cref="FathomException">It does not start; the message has what it said.</exception>
    public static async Task<SoakServer> StartAsync(IEnumerable<string> arguments, CancellationToken cancellation)
    {
        string self = Environment.ProcessPath ?? "dotnet";
        var start = new ProcessStartInfo(self) { RedirectStandardOutput = true, RedirectStandardError = true };
        if (Path.GetFileNameWithoutExtension(self) == "dotnet") start.ArgumentList.Add(typeof(SoakServer).Assembly.Location);
        foreach (string argument in (string[])["serve", .. arguments, "--port", "0"]) start.ArgumentList.Add(argument);
        Process process = Process.Start(start) ?? throw new FathomException($"{self} could not be started");
        var said = new StringBuilder();
        process.ErrorDataReceived += (_, line) =>
        {
            lock (said)
            {
                if (said.Length < 4096) said.Append(line.Data).Append(' ');
            }
        };
        process.BeginErrorReadLine();
        try
        {
            string? line = await process.StandardOutput.ReadLineAsync(cancellation).AsTask().WaitAsync(StartLimit, cancellation).ConfigureAwait(false);
            if (Uri.TryCreate(line, UriKind.Absolute, out Uri? address)) return new SoakServer(process, address);
            await process.WaitForExitAsync(cancellation).WaitAsync(TimeSpan.FromSeconds(5), cancellation).ConfigureAwait(false);
            lock (said) throw new FathomException($"the server did not start: {said}");
        }
        catch (Exception error)
        {
            End(process);
            if (error is TimeoutException) throw new FathomException($"the server did not start within {StartLimit.TotalSeconds:F0} s", error);
            throw;
        }
    }

    /// <inheritdoc/>
    public void Dispose() => End(process);

    private static void End(Process process)
    {
        if (!process.HasExited) process.Kill();
        process.WaitForExit();
        process.Dispose();
    }
}
