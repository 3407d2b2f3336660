// A conversation in the terminal. Answers stream; what was said before stays in the cache. With --continue there is no template:
// each line is the beginning of a document, which is all that a model trained on plain text knows.
using System.CommandLine;
using Fathom.Cli.Chat;
using Fathom.Cli.Terminal;
using Fathom.Compute;
using Fathom.Inference;
using Fathom.Numerics;
using Fathom.Text;
using static Fathom.Cli.Terminal.Numbers;

namespace Fathom.Cli.Verbs;

/// <summary><c>fathom chat</c>.</summary>
internal static class ChatVerb
{
    private const string Prompt = "> ";

    public static Command Create()
    {
        var model = CommonOptions.Model();
        var weights = CommonOptions.Weights();
        var system = new Option<string?>("--system") { Description = "System message.", HelpName = "TEXT" };
        var plain = new Option<bool>("--continue") { Description = "No chat template: continue each line as text. For models that were trained on plain text only." };
        var context = new Option<int>("--context") { Description = "Most tokens of the whole conversation; 0 for the model's own, at most 32,768.", HelpName = "N" };
        var on = CommonOptions.Device();
        var threads = CommonOptions.Threads();
        var cache = CommonOptions.Cache();
        var command = new Command("chat", "Talk to a model.") { model, weights, system, plain, context };
        var sampling = new SamplingArguments(command, defaultTokens: 512, defaultTemperature: 0.7f);
        command.Options.Add(on);
        command.Options.Add(threads);
        command.Options.Add(cache);
        command.SetAction(arguments =>
        {
            SamplingOptions options = sampling.Read(arguments);
            using Device device = CommonOptions.Device(arguments.GetValue(on), arguments.GetValue(threads));
            LoadedModel loaded = LoadedModel.Open(device, arguments.GetRequiredValue(model), arguments.GetValue(weights));
            Tokenizer tokenizer = loaded.RequireTokenizer();
            Conversation? conversation = arguments.GetValue(plain)
                ? null
                : new Conversation(tokenizer, loaded.ChatTemplate ?? throw new FathomException($"{loaded.Path} has no chat template; use --continue to continue text without one"));
            if (conversation is not null) conversation.System = arguments.GetValue(system);
            using InferenceEngine engine = Engine(loaded, arguments.GetValue(context), arguments.GetValue(cache));
            using var chat = new Dialogue(engine, tokenizer, conversation, options);
            chat.Run();
            return ExitCode.Success;
        });
        return command;
    }

    /// <summary>An engine for one conversation: what was said and answered before is found in the cache, but for the last block.</summary>
    private static InferenceEngine Engine(LoadedModel model, int context, DType cache)
    {
        int room = context > 0 ? context : Math.Min(model.Model.Config.MaxPositionEmbeddings, 32_768);
        return new InferenceEngine(model, new EngineOptions { ContextTokens = room, CacheTokens = room, CacheType = cache, MostRunning = 1, Reuse = PrefixReuse.PromptsAndAnswers, BatchInvariant = false });
    }

    private sealed class Dialogue(InferenceEngine engine, Tokenizer tokenizer, Conversation? conversation, SamplingOptions options) : IDisposable
    {
        private readonly AnswerInterruption interruption = new();
        private SamplingOptions options = options;

        public void Run()
        {
            if (!Console.IsInputRedirected) Console.WriteLine($"{CommandName.Argument(engine.Model.Path)} on {engine.Model.Model.Device.Name}. /help shows the commands, Ctrl-C stops an answer.");
            while (LineReader.Read(Prompt) is { } line)
            {
                try
                {
                    if (line.StartsWith('/') && !line.Contains('\n', StringComparison.Ordinal))
                    {
                        if (!Command(line[1..])) return;
                    }
                    else if (!string.IsNullOrWhiteSpace(line))
                    {
                        Answer(line);
                    }
                }
                catch (Exception error) when (error is FathomException or ChatTemplateException)
                {
                    Errors.Write(error.Message);
                }
            }

            if (!Console.IsInputRedirected) Console.WriteLine(); // after Ctrl-D
        }

        public void Dispose() => interruption.Dispose();

        private bool Command(string text)
        {
            string[] parts = text.Split(' ', 2, StringSplitOptions.TrimEntries);
            string value = parts.Length > 1 ? parts[1] : "";
            switch (parts[0])
            {
                case "exit" or "quit":
                    return false;
                case "reset":
                    conversation?.Reset();
                    Console.WriteLine("(the conversation begins anew)");
                    return true;
                case "system":
                    if (conversation is null) throw new FathomException("with --continue there is no system message");
                    conversation.System = value;
                    Console.WriteLine(conversation.System is null ? "(no system message; the conversation begins anew)" : "(system message set; the conversation begins anew)");
                    return true;
                case "help" or "":
                    Console.WriteLine($"""
                        /reset           forget the conversation
                        /system TEXT     set the system message, and forget the conversation
                        {ChatSettings.Names}
                                         change how tokens are chosen
                        /exit            leave
                        A line that ends in \ goes on in the next.
                        """);
                    return true;
                default:
                    options = ChatSettings.Apply(options, parts[0], value) ?? throw new FathomException($"there is no command /{parts[0]}; /help shows those there are");
                    Console.WriteLine(Invariant($"(temperature {options.Temperature}, top-p {options.TopP}, top-k {options.TopK}, min-p {options.MinP}, at most {options.MaxNewTokens} tokens)"));
                    return true;
            }
        }

        private void Answer(string line)
        {
            int[] prompt = conversation?.Ask(line) ?? Document(line);
            var answer = new List<int>();
            var text = new System.Text.StringBuilder();
            if (conversation is null) Console.Write(line);
            GenerationResult result;
            try
            {
                Generation generation = engine.Submit(new GenerationRequest { Prompt = prompt, Sampling = options with { Seed = options.Seed + (ulong)prompt.Length } }, interruption.Begin());
                foreach (GenerationPiece piece in generation.ToBlockingEnumerable())
                {
                    answer.AddRange(piece.Tokens.Select(token => token.Id));
                    text.Append(piece.Text);
                    Console.Write(piece.Text);
                    Console.Out.Flush();
                }

                result = generation.Completion.Result;
            }
            catch (FathomException)
            {
                conversation?.TakeBack();
                throw;
            }
            finally
            {
                interruption.End();
            }

            conversation?.Answered(text.ToString(), answer);
            Console.WriteLine();
            string ended = result.Reason switch { FinishReason.Length => "; cut off at the limit", FinishReason.Cancelled => "; stopped", _ => "" };
            Console.Error.WriteLine(Invariant($"[{result.NewTokens} tokens at {result.TokensPerSecond:F1} tokens/s; {result.PromptTokens - result.CachedTokens} of {result.PromptTokens} prompt tokens read in {result.TimeToFirstToken.TotalMilliseconds:F0} ms{ended}]"));
        }

        // In training every document follows an end token, or begins with a begin token where the tokenizer says so.
        private int[] Document(string line) => tokenizer switch
        {
            { AddsBos: true, BosId: { } bos } => [bos, .. tokenizer.Encode(line)],
            { EosId: { } eos } => [eos, .. tokenizer.Encode(line)],
            _ => tokenizer.Encode(line),
        };
    }
}
