// How the user started this program, so that the commands that are suggested can be copied as they are: from a clone that is
// `dotnet run -c Release --project …`, elsewhere `fathom`.
using System.CommandLine;
using System.CommandLine.Parsing;

namespace Fathom.Cli.Terminal;

/// <summary>The command's own name in suggestions.</summary>
internal static class CommandName
{
    private const string Project = "Fathom.Cli";

    /// <summary>What to write before a verb.</summary>
    public static string Text { get; } = Find();

    /// <summary>A path as an argument: relative to the working directory where that is shorter, quoted where it has spaces.</summary>
    public static string Argument(string path)
    {
        string relative = Path.GetRelativePath(Environment.CurrentDirectory, path);
        string shorter = relative.Length < path.Length ? relative : path;
        return Quote(shorter);
    }

    /// <summary>The command that is running, for reports.</summary>
    public static string Of(ParseResult arguments) => string.Join(' ', ["fathom", .. arguments.Tokens.Select(token => Quote(token.Value))]);

    /// <summary>The verbs from the root to the one that was given, each after a blank: " study fp8".</summary>
    public static string Verbs(CommandResult result) => result.Command is RootCommand
        ? ""
        : (result.Parent is CommandResult parent ? Verbs(parent) : "") + " " + result.Command.Name;

    private static string Quote(string argument) => argument.Contains(' ') ? $"\"{argument}\"" : argument;

    private static string Find()
    {
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (folder.Name == Project && File.Exists(Path.Combine(folder.FullName, Project + ".csproj")))
                return $"dotnet run -c Release --project {Argument(folder.FullName)} --";
        }

        return "fathom";
    }
}
