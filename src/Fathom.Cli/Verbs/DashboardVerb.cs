// Training runs on a page, without a model. What is shown and how is Fathom.Server's; here are the arguments.
using System.CommandLine;
using Fathom.Cli.Terminal;
using Fathom.Numerics;
using Fathom.Server;

namespace Fathom.Cli.Verbs;

/// <summary><c>fathom dashboard</c>.</summary>
internal static class DashboardVerb
{
    private const string UsualRuns = "runs"; // where train and quickstart put theirs
    private const int UsualPort = 8001;

    public static Command Create()
    {
        Option<string[]> runs = Runs();
        runs.Description += " Where it is not given: runs.";
        var host = new Option<string>("--host") { Description = "Address to listen on; 0.0.0.0 for all. Others than this machine should need a key.", HelpName = "ADDRESS", DefaultValueFactory = _ => new FathomServerOptions().Host };
        var port = new Option<int>("--port") { Description = "Port to listen on; 0 for a free one.", HelpName = "N", DefaultValueFactory = _ => UsualPort };
        var keys = new Option<string?>("--keys") { Description = "File with keys (SQLite). Once it holds a key, the runs need one: 'fathom serve keys add'.", HelpName = "FILE" };
        var command = new Command("dashboard", "Show training runs in the browser, live: loss, speed, memory, the load of experts.") { runs, host, port, keys };
        command.SetAction(async (arguments, cancellation) =>
        {
            var options = new FathomServerOptions { Host = arguments.GetValue(host)!, Port = arguments.GetValue(port), KeysFile = arguments.GetValue(keys) };
            AddRuns(options, arguments.GetValue(runs));
            if (options.RunDirectories.Count == 0) options.RunDirectories.Add(UsualRuns);
            await using FathomServer server = await FathomServer.StartAsync(options, cancellation: cancellation);
            // The first line of the output is where it listens, for scripts that let the system choose the port.
            Console.WriteLine(server.Address);
            await server.WaitAsync(cancellation);
            return ExitCode.Success;
        });
        return command;
    }

    /// <summary>--runs.</summary>
    public static Option<string[]> Runs() => new("--runs")
    {
        Description = "Run directory, or a directory of them, to show at /dashboard; may be given several times.",
        HelpName = "DIR",
        DefaultValueFactory = _ => [],
    };

    /// <summary>Adds the directories that were given.</summary>
    /// <exception cref="FathomException">One of them is not there.</exception>
    public static void AddRuns(FathomServerOptions options, string[]? directories)
    {
        foreach (string directory in directories ?? [])
        {
            if (!Directory.Exists(directory)) throw new FathomException($"there is no directory {directory} to show runs of; give a run directory, or one that holds runs");
            options.RunDirectories.Add(directory);
        }
    }
}
