namespace Fathom.Cli.Terminal;

/// <summary>What the process ends with.</summary>
internal static class ExitCode
{
    /// <summary>Done; also a run that was asked to stop and saved its state.</summary>
    public const int Success = 0;

    /// <summary>The command was right and could not be finished: a run diverged, a disk filled up.</summary>
    public const int Failed = 1;

    /// <summary>Something in the arguments, files or configuration is wrong.</summary>
    public const int BadInput = 2;

    /// <summary>Interrupted before there was anything to keep (128 + SIGINT).</summary>
    public const int Interrupted = 130;
}
