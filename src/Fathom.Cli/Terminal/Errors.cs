// From an exception to one line on the error stream and an exit code. Our own exceptions carry a message for a person; of what the
// system throws, the kinds that a user can cause are told apart from a defect of ours.
using Fathom.Numerics;
using Fathom.Text;
using Fathom.Training;

namespace Fathom.Cli.Terminal;

/// <summary>A command that was right and failed: exit code 1.</summary>
internal sealed class FailedRunException(string message, Exception inner) : Exception(message, inner);

/// <summary>Reports errors.</summary>
internal static class Errors
{
    private static bool Debug => Environment.GetEnvironmentVariable("FATHOM_DEBUG") is "1" or "true";

    /// <summary>Writes an error line.</summary>
    public static void Write(string message) => Console.Error.WriteLine("fathom: " + message.ReplaceLineEndings(" ").Trim());

    /// <summary>Writes what a person needs to know about an exception.</summary>
    /// <returns>The exit code.</returns>
    public static int Report(Exception error)
    {
        (int code, string message) = error switch
        {
            TypeInitializationException { InnerException: FathomException inner } => (ExitCode.BadInput, inner.Message), // a setting of the environment
            FailedRunException or NonFiniteLossException => (ExitCode.Failed, error.Message),
            FathomException or TextFormatException or ChatTemplateException => (ExitCode.BadInput, error.Message),
            OperationCanceledException => (ExitCode.Interrupted, "interrupted"),
            OutOfMemoryException => (ExitCode.Failed, "not enough memory: " + error.Message),
            IOException or UnauthorizedAccessException => (ExitCode.BadInput, error.Message),
            _ => (ExitCode.Failed, $"this is a defect of fathom: {error.GetType().Name}: {error.Message} (FATHOM_DEBUG=1 shows where; please report it)"),
        };
        Write(message);
        if (Debug) Console.Error.WriteLine(error);
        return code;
    }
}
