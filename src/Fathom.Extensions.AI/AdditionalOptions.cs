// What the engine can do and ChatOptions has no field for, by the names that OpenAI-compatible servers have for it. A name that is not
// known is refused: a misspelt min_p that does nothing would be found late.
using System.Globalization;
using Fathom.Inference;
using Microsoft.Extensions.AI;

namespace Fathom.Extensions.AI;

/// <summary>Reads <see cref="ChatOptions.AdditionalProperties"/>.</summary>
internal static class AdditionalOptions
{
    private const string Known = "min_p, repetition_penalty, min_tokens, ignore_eos, logit_bias, priority, user_id";

    /// <summary>A request with the further options.</summary>
    /// <exception cref="ArgumentException">A name is not known, or a value is of another type.</exception>
    public static ChatRequest Apply(AdditionalPropertiesDictionary? properties, ChatRequest request)
    {
        foreach ((string name, object? value) in properties ?? [])
        {
            if (value is null) continue;
            SamplingOptions sampling = request.Sampling;
            request = name switch
            {
                "min_p" => request with { Sampling = sampling with { MinP = (float)Number(name, value) } },
                "repetition_penalty" => request with { Sampling = sampling with { RepetitionPenalty = (float)Number(name, value) } },
                "min_tokens" => request with { Sampling = sampling with { MinNewTokens = Integer(name, value) } },
                "ignore_eos" => request with { Sampling = sampling with { StopAtEos = !Of<bool>(name, value) } },
                "logit_bias" => request with { Sampling = sampling with { LogitBias = Of<IReadOnlyDictionary<int, float>>(name, value) } },
                "priority" => request with { Priority = Integer(name, value) },
                "user_id" => request with { User = Of<string>(name, value) },
                _ => throw new ArgumentException($"AdditionalProperties has '{name}', which is not known; there are {Known}"),
            };
        }

        return request;
    }

    private static T Of<T>(string name, object value) => value is T typed ? typed : throw Wrong(name, value, typeof(T).Name);

    private static double Number(string name, object value) => value is float or double or decimal or int or long
        ? Convert.ToDouble(value, CultureInfo.InvariantCulture)
        : throw Wrong(name, value, "a number");

    private static int Integer(string name, object value) => value switch
    {
        int number => number,
        long number and >= int.MinValue and <= int.MaxValue => (int)number,
        _ => throw Wrong(name, value, "a whole number"),
    };

    private static ArgumentException Wrong(string name, object value, string expected) =>
        new($"AdditionalProperties has '{name}' as {value.GetType().Name}, expected {expected}");
}
