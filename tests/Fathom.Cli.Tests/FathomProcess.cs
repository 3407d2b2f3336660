// The command as a user starts it: a process of its own, with its exit code, output and error stream.
using System.Diagnostics;
using System.Text;
using Xunit;

namespace Fathom.Cli.Tests;

/// <summary>What a finished process left behind.</summary>
public sealed record Outcome(int ExitCode, string Output, string Error)
{
    /// <summary>Asserts an exit code, showing both streams where it is another.</summary>
    public Outcome Expect(int code)
    {
        Assert.True(ExitCode == code, $"exit code {ExitCode}, expected {code}\n{Output}\n{Error}");
        Assert.DoesNotContain("   at Fathom.", Error, StringComparison.Ordinal);
        return this;
    }
}

/// <summary>Starts the built command.</summary>
public sealed class FathomProcess : IDisposable
{
    private static readonly TimeSpan Limit = TimeSpan.FromMinutes(4);
    private readonly Process process;
    private readonly StringBuilder output = new(), error = new();
    private long peakMemory;

    private FathomProcess(string? input, string[] arguments, IEnumerable<(string Name, string Value)>? environment = null)
    {
        var start = new ProcessStartInfo(Environment.ProcessPath is { } host && Path.GetFileNameWithoutExtension(host) == "dotnet" ? host : "dotnet")
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            RedirectStandardInput = true,
        };
        start.ArgumentList.Add(Path.Combine(AppContext.BaseDirectory, "fathom.dll"));
        foreach (string argument in arguments) start.ArgumentList.Add(argument);
        foreach ((string name, string value) in environment ?? []) start.Environment[name] = value;
        process = new Process { StartInfo = start };
        process.OutputDataReceived += (_, e) => Append(output, e.Data);
        process.ErrorDataReceived += (_, e) => Append(error, e.Data);
        process.Start();
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
        if (input is not null) process.StandardInput.Write(input);
        process.StandardInput.Close();
    }

    /// <summary>Whether the process has ended.</summary>
    public bool HasExited => process.HasExited;

    /// <summary>The most memory that the process has held so far, in bytes; what it was last where it has ended.</summary>
    public long PeakMemory
    {
        get
        {
            process.Refresh();
            try
            {
                return peakMemory = Math.Max(peakMemory, process.HasExited ? 0 : process.PeakWorkingSet64);
            }
            catch (InvalidOperationException)
            {
                return peakMemory; // ended meanwhile
            }
        }
    }

    /// <summary>Runs a command to its end.</summary>
    public static Outcome Run(params string[] arguments) => RunWithInput(null, arguments);

    /// <summary>Runs a command with text on its standard input.</summary>
    public static Outcome RunWithInput(string? input, params string[] arguments)
    {
        using var running = new FathomProcess(input, arguments);
        return running.Wait();
    }

    /// <summary>Runs a command with environment variables of its own.</summary>
    public static Outcome RunIn(IEnumerable<(string Name, string Value)> environment, params string[] arguments)
    {
        using var running = new FathomProcess(null, arguments, environment);
        return running.Wait();
    }

    /// <summary>Starts a command and leaves it running.</summary>
    public static FathomProcess Start(params string[] arguments) => new(null, arguments);

    /// <summary>Waits for the end.</summary>
    public Outcome Wait()
    {
        if (!process.WaitForExit(Limit))
        {
            Kill();
            Assert.Fail($"the command did not end within {Limit.TotalSeconds} s\n{output}\n{error}");
        }

        process.WaitForExit(); // for the rest of the streams
        return new Outcome(process.ExitCode, output.ToString(), error.ToString());
    }

    /// <summary>Ends the process at once, as kill -9 does.</summary>
    public void Kill() => process.Kill();

    /// <summary>Sends SIGINT, as Ctrl-C does.</summary>
    public void Interrupt()
    {
        using Process kill = Process.Start("kill", ["-INT", process.Id.ToString(System.Globalization.CultureInfo.InvariantCulture)]);
        kill.WaitForExit();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (!process.HasExited) process.Kill();
        process.Dispose();
    }

    private static void Append(StringBuilder builder, string? line)
    {
        lock (builder)
        {
            if (line is not null) builder.Append(line).Append('\n');
        }
    }
}
