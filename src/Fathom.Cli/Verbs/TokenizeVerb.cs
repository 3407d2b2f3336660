// Text to ids: of an argument, of a file, or of JSON lines. The output file appears whole or not at all.
using System.CommandLine;
using System.Diagnostics;
using System.Text;
using System.Text.Json;
using Fathom.Cli.Terminal;
using Fathom.Numerics;
using Fathom.Text;
using static Fathom.Cli.Terminal.Numbers;

namespace Fathom.Cli.Verbs;

/// <summary><c>fathom tokenize</c>.</summary>
internal static class TokenizeVerb
{
    public static Command Create()
    {
        var tokenizer = new Option<string>("--tokenizer") { Description = "Folder with tokenizer.json, or the file.", HelpName = "DIR", Required = true };
        var jsonl = new Option<string?>("--jsonl") { Description = "Read lines {\"text\": …} and write lines {\"ids\": […]}.", HelpName = "FILE" };
        var text = new Option<string?>("--text") { Description = "Tokenize this text.", HelpName = "TEXT" };
        var output = new Option<string?>("--out") { Description = "File to write; standard output if not given.", HelpName = "FILE" };
        var file = new Argument<string?>("FILE") { Description = "Tokenize this file as one text.", Arity = ArgumentArity.ZeroOrOne };
        var command = new Command("tokenize", "Turn text into token ids.") { tokenizer, jsonl, text, output, file };
        command.Validators.Add(result =>
        {
            int given = (result.GetResult(jsonl) is null ? 0 : 1) + (result.GetResult(text) is null ? 0 : 1) + (result.GetValue(file) is null ? 0 : 1);
            if (given != 1) result.AddError("give one of --jsonl FILE, --text TEXT and a file");
        });
        command.SetAction(arguments =>
        {
            Tokenizer loaded = Tokenizer.Load(arguments.GetRequiredValue(tokenizer));
            string? target = arguments.GetValue(output);
            if (arguments.GetValue(jsonl) is { } lines) Emit(target, writer => TokenizeLines(loaded, lines, writer));
            else Emit(target, writer => writer.WriteLine(TokenIds.Format(loaded.Encode(arguments.GetValue(text) ?? ReadFile(arguments.GetValue(file)!)))));
            return ExitCode.Success;
        });
        return command;
    }

    private static void TokenizeLines(Tokenizer tokenizer, string path, TextWriter output)
    {
        long bytes = 0, tokens = 0, number = 0;
        double seconds = 0;
        var ids = new List<int>();
        foreach (string line in ReadLines(path))
        {
            number++;
            if (string.IsNullOrWhiteSpace(line)) continue;
            string text = TextOf(line, path, number);
            long started = Stopwatch.GetTimestamp();
            ids.Clear();
            tokenizer.Encode(text, ids);
            seconds += Stopwatch.GetElapsedTime(started).TotalSeconds;
            bytes += Encoding.UTF8.GetByteCount(text);
            tokens += ids.Count;
            output.Write("{\"ids\": [");
            output.Write(string.Join(", ", ids));
            output.Write("]}\n");
        }

        Console.Error.WriteLine(Invariant($"[{number:N0} lines, {bytes:N0} bytes, {tokens:N0} tokens; {bytes / 1e6 / seconds:F1} MB/s]"));
    }

    private static string TextOf(string line, string path, long number)
    {
        try
        {
            using JsonDocument document = JsonDocument.Parse(line);
            if (document.RootElement.ValueKind == JsonValueKind.Object && document.RootElement.TryGetProperty("text", out JsonElement text) && text.ValueKind == JsonValueKind.String)
                return text.GetString()!;
        }
        catch (Exception error) when (error is JsonException or InvalidOperationException)
        {
            // An invalid escape shows only when the string is read; both are the same to the user.
            throw new FathomException($"{path}, line {number}: not JSON: {error.Message}", error);
        }

        throw new FathomException($"{path}, line {number}: expected an object with a string \"text\"");
    }

    private static IEnumerable<string> ReadLines(string path)
    {
        StreamReader reader;
        try
        {
            reader = new StreamReader(path);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw new FathomException($"cannot read {path}: {error.Message}", error);
        }

        using (reader)
        {
            while (reader.ReadLine() is { } line) yield return line;
        }
    }

    private static string ReadFile(string path)
    {
        try
        {
            return new UTF8Encoding(false, throwOnInvalidBytes: true).GetString(File.ReadAllBytes(path));
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw new FathomException($"cannot read {path}: {error.Message}", error);
        }
        catch (DecoderFallbackException error)
        {
            throw new FathomException($"{path} is not UTF-8 text: byte {error.Index} does not fit", error);
        }
    }

    private static void Emit(string? path, Action<TextWriter> write)
    {
        if (path is null)
        {
            using var output = new StreamWriter(Console.OpenStandardOutput(), new UTF8Encoding(false), 1 << 16);
            write(output);
            return;
        }

        string temporary = path + ".tmp";
        try
        {
            using (var output = new StreamWriter(temporary, append: false, new UTF8Encoding(false), 1 << 16)) write(output);
            File.Move(temporary, path, overwrite: true);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            File.Delete(temporary);
            throw new FathomException($"cannot write {path}: {error.Message}", error);
        }
        catch (FathomException)
        {
            File.Delete(temporary);
            throw;
        }
    }
}
