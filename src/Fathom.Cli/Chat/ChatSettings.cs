// The slash commands of a chat that change how tokens are chosen.
using System.Globalization;
using Fathom.Inference;
using Fathom.Numerics;

namespace Fathom.Cli.Chat;

/// <summary>Sampling options that the user can change while chatting.</summary>
internal static class ChatSettings
{
    /// <summary>Names of the settings, for the help.</summary>
    public const string Names = "/temperature T, /top-p P, /top-k K, /min-p P, /max N";

    /// <summary>Applies a command like "/temperature 0.5".</summary>
    /// <returns>The changed options, or null where the name is not a setting.</returns>
    /// <exception cref="FathomException">The value is missing or out of range.</exception>
    public static SamplingOptions? Apply(SamplingOptions options, string name, string value)
    {
        SamplingOptions? changed = name switch
        {
            "temperature" => options with { Temperature = Number() },
            "top-p" => options with { TopP = Number() },
            "top-k" => options with { TopK = (int)Number() },
            "min-p" => options with { MinP = Number() },
            "max" => options with { MaxNewTokens = (int)Number() },
            _ => null,
        };
        changed?.Validate();
        return changed;

        float Number() => float.TryParse(value, NumberStyles.Float, CultureInfo.InvariantCulture, out float number)
            ? number
            : throw new FathomException($"/{name} needs a number, as /{name} {(name is "top-k" or "max" ? "40" : "0.7")}");
    }
}
