// The `fathom` command. It reads arguments, calls one verb and turns errors into one line and an exit code; a stack trace is
// shown only with FATHOM_DEBUG=1.
using System.CommandLine;
using System.CommandLine.Invocation;
using Fathom.Cli.Terminal;
using Fathom.Cli.Verbs;

var root = new RootCommand("Fathom: train a DeepSeek-V3 model on your own text, and talk to it.")
{
    QuickstartVerb.Create(),
    TrainVerb.Create(),
    ChatVerb.Create(),
    ServeVerb.Create(),
    DashboardVerb.Create(),
    GenerateVerb.Create(),
    EvaluateVerb.Create(),
    ModelVerb.Create(),
    ConvertVerb.Create(),
    TokenizeVerb.Create(),
    ForwardVerb.Create(),
    StudyVerb.Create(),
    BenchVerb.Create(),
    CheckVerb.Create(),
    DoctorVerb.Create(),
    VersionVerb.Create(),
};

ParseResult parsed = root.Parse(args.Length > 0 ? args : ["--help"]);
if (parsed.Action is ParseErrorAction)
{
    // The last is the most particular: what is wrong before what is missing.
    Errors.Write(string.Join("; ", parsed.Errors.Reverse().Select(error => error.Message.TrimEnd('.'))));
    Console.Error.WriteLine($"See: {CommandName.Text}{CommandName.Verbs(parsed.CommandResult)} --help");
    return ExitCode.BadInput;
}

try
{
    // Signals are the verbs' own: a run finishes its step and saves, a chat stops its answer.
    return parsed.Invoke(new InvocationConfiguration { EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = null });
}
catch (Exception error)
{
    return Errors.Report(error);
}
