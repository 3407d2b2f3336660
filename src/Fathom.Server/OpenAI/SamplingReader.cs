// The fields that choose tokens, the same for chats and completions: OpenAI's, DeepSeek's, and those that vLLM's users send besides.
using System.Globalization;
using Fathom.Inference;
using Fathom.Server.Http;

namespace Fathom.Server.OpenAI;

/// <summary>Reads sampling options.</summary>
internal static class SamplingReader
{
    private const int MostStops = 16, LongestStop = 512, MostBiases = 1024;

    /// <summary>Reads the options of a request.</summary>
    /// <param name="body">The request.</param>
    /// <param name="defaultTokens">Tokens where it does not say.</param>
    /// <param name="vocabulary">Number of tokens, for the biases.</param>
    public static SamplingOptions Read(JsonField body, int defaultTokens, int vocabulary) => new()
    {
        Temperature = (float)(body.Get("temperature")?.Number(0, 2) ?? 1),
        TopP = (float)(body.Get("top_p") is { } topP ? Positive(topP) : 1),
        TopK = body.Get("top_k") is { } topK ? (int)Math.Max(0, topK.Integer(-1, int.MaxValue)) : 0, // vLLM: -1 keeps all
        MinP = (float)(body.Get("min_p")?.Number(0, 1) ?? 0),
        PresencePenalty = (float)(body.Get("presence_penalty")?.Number(-2, 2) ?? 0),
        FrequencyPenalty = (float)(body.Get("frequency_penalty")?.Number(-2, 2) ?? 0),
        RepetitionPenalty = (float)(body.Get("repetition_penalty")?.Number(0.01, 100) ?? 1),
        LogitBias = body.Get("logit_bias") is { } bias ? Biases(bias, vocabulary) : new Dictionary<int, float>(),
        Seed = body.Get("seed") is { } seed ? unchecked((ulong)seed.Integer(long.MinValue, long.MaxValue)) : (ulong)Random.Shared.NextInt64(),
        MaxNewTokens = (int)((body.Get("max_completion_tokens") ?? body.Get("max_tokens"))?.Integer(1, int.MaxValue) ?? defaultTokens),
        MinNewTokens = (int)(body.Get("min_tokens")?.Integer(0, int.MaxValue) ?? 0),
        StopSequences = body.Get("stop") is { } stop ? Stops(stop) : [],
        StopAtEos = body.Get("ignore_eos")?.Boolean() != true,
    };

    /// <summary>The options of one of several answers: a seed of its own, the first with the request's.</summary>
    public static SamplingOptions ForChoice(SamplingOptions options, int choice) => options with { Seed = unchecked(options.Seed + ((ulong)choice * 0x9E3779B97F4A7C15)) };

    /// <summary>One stop sequence or several.</summary>
    public static IReadOnlyList<string> Stops(JsonField stop)
    {
        if (stop.IsString) return [Stop(stop)];
        if (!stop.IsArray) throw stop.Wrong("a string or an array of strings");
        return [.. stop.Items(MostStops).Select(Stop)];
    }

    /// <summary>Whether the answer streams, and whether its usage comes at the end.</summary>
    public static (bool Stream, bool Usage) Streaming(JsonField body) =>
        (body.Get("stream")?.Boolean() ?? false, body.Get("stream_options")?.Get("include_usage")?.Boolean() ?? false);

    /// <summary>The priority of vLLM, where lower comes first; the engine's has it the other way round.</summary>
    public static int Priority(JsonField body) => (int)-(body.Get("priority")?.Integer(-1000, 1000) ?? 0);

    /// <summary>Who the client says it asks for.</summary>
    public static string? User(JsonField body)
    {
        if ((body.Get("user_id") ?? body.Get("user") ?? body.Get("safety_identifier")) is not { } user) return null;
        string text = user.Text();
        return text.Length <= 512 ? text : throw user.Impossible("has more than 512 characters");
    }

    private static string Stop(JsonField stop)
    {
        string text = stop.Text();
        if (text.Length == 0) throw stop.Impossible("must not be empty");
        return text.Length <= LongestStop ? text : throw stop.Impossible($"has more than {LongestStop} characters");
    }

    private static double Positive(JsonField field)
    {
        double value = field.Number(0, 1);
        return value > 0 ? value : throw field.Impossible("must be above 0 and at most 1");
    }

    private static Dictionary<int, float> Biases(JsonField field, int vocabulary)
    {
        var biases = new Dictionary<int, float>();
        foreach ((string name, JsonField bias) in field.Fields(MostBiases))
        {
            if (!int.TryParse(name, NumberStyles.None, CultureInfo.InvariantCulture, out int id) || id >= vocabulary)
                throw ApiException.Value($"'logit_bias' has the key '{(name.Length <= 40 ? name : name[..40])}', which is not a token id from 0 to {vocabulary - 1}", "logit_bias");
            biases[id] = (float)bias.Number(-100, 100);
        }

        return biases;
    }
}
