using System.CommandLine;
using System.Reflection;
using Fathom.Cli.Terminal;

namespace Fathom.Cli.Verbs;

/// <summary><c>fathom version</c>: prints the version, as <c>--version</c> does.</summary>
internal static class VersionVerb
{
    public static Command Create()
    {
        var command = new Command("version", "Print the version.");
        command.SetAction(_ =>
        {
            Console.WriteLine(typeof(VersionVerb).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()!.InformationalVersion);
            return ExitCode.Success;
        });
        return command;
    }
}
