// Why does it not run, or not run fast, here? What the program sees of the machine, and for each missing piece what it disables and
// how to get it. A machine without a GPU is no error.
using System.CommandLine;
using System.Text.Json;
using Fathom.Cli.Doctor;
using Fathom.Cli.Terminal;

namespace Fathom.Cli.Verbs;

/// <summary><c>fathom doctor</c>.</summary>
internal static class DoctorVerb
{
    private static readonly JsonSerializerOptions Indented = new() { WriteIndented = true };

    public static Command Create()
    {
        var json = new Option<bool>("--json") { Description = "Print JSON." };
        var command = new Command("doctor", "Show what this machine has: processor, memory, GPUs, CUDA libraries, caches, and what is missing.") { json };
        command.SetAction(arguments =>
        {
            MachineReport report = MachineReport.Gather();
            if (arguments.GetValue(json)) Console.WriteLine(report.Json.ToJsonString(Indented));
            else
            {
                foreach (Finding finding in report.Findings) Console.WriteLine($"{(finding.IsMissing ? '-' : ' ')} {finding.Name,-13} {finding.Text}");
            }

            return ExitCode.Success;
        });
        return command;
    }
}
