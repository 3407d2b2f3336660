// Options for choosing tokens, as `generate` and `chat` take them.
using System.CommandLine;
using Fathom.Inference;

namespace Fathom.Cli.Verbs;

/// <summary>The sampling options of a command.</summary>
internal sealed class SamplingArguments
{
    private readonly Option<int> maxNewTokens;
    private readonly Option<float> temperature;
    private readonly Option<float> topP = new("--top-p") { Description = "Keep the most likely tokens that together reach this probability.", HelpName = "P", DefaultValueFactory = _ => 1 };
    private readonly Option<int> topK = new("--top-k") { Description = "Keep this many of the most likely tokens; 0 keeps all.", HelpName = "K" };
    private readonly Option<float> minP = new("--min-p") { Description = "Keep tokens of at least this share of the most likely one's probability; 0 keeps all.", HelpName = "P" };
    private readonly Option<ulong?> seed = new("--seed") { Description = "Seed of the random numbers; a new one each time if not given.", HelpName = "N" };
    private readonly Option<string[]> stop = new("--stop") { Description = "Text at which to stop; may be given several times.", HelpName = "TEXT", DefaultValueFactory = _ => [] };
    private readonly Option<bool> ignoreEos = new("--ignore-eos") { Description = "Go on after an end-of-sequence token." };

    /// <summary>Adds the options to a command.</summary>
    public SamplingArguments(Command command, int defaultTokens, float defaultTemperature)
    {
        maxNewTokens = new("--max-new-tokens", "-n") { Description = "Most tokens to generate.", HelpName = "N", DefaultValueFactory = _ => defaultTokens };
        temperature = new("--temperature", "-t") { Description = "Divides the logits; 0 always takes the most likely token.", HelpName = "T", DefaultValueFactory = _ => defaultTemperature };
        foreach (Option option in (Option[])[maxNewTokens, temperature, topP, topK, minP, seed, stop, ignoreEos]) command.Options.Add(option);
    }

    /// <summary>What was given, checked.</summary>
    /// <exception cref="Numerics.FathomException">Names the value that is out of range.</exception>
    public SamplingOptions Read(ParseResult arguments)
    {
        var options = new SamplingOptions
        {
            MaxNewTokens = arguments.GetValue(maxNewTokens),
            Temperature = arguments.GetValue(temperature),
            TopP = arguments.GetValue(topP),
            TopK = arguments.GetValue(topK),
            MinP = arguments.GetValue(minP),
            Seed = arguments.GetValue(seed) ?? (ulong)Random.Shared.NextInt64(),
            StopSequences = arguments.GetValue(stop) ?? [],
            StopAtEos = !arguments.GetValue(ignoreEos),
        };
        options.Validate();
        return options;
    }
}
