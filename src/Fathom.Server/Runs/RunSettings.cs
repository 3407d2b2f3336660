// What run.json says about a run, as far as people compare runs by it. The paths in it are nobody's business over the network.
using System.Text.Json;

namespace Fathom.Server.Runs;

/// <summary>The settings of a run.</summary>
/// <param name="Model">The model in a few words.</param>
/// <param name="Recipe">Precision.</param>
/// <param name="SequenceLength">Tokens of a sequence.</param>
/// <param name="Seed">Seed.</param>
/// <param name="Steps">End of the run in steps, where it has that.</param>
/// <param name="Tokens">End of the run in tokens, where it has that.</param>
/// <param name="Seconds">End of the run in seconds of training, where it has that.</param>
internal sealed record RunSettings(string? Model, string? Recipe, long? SequenceLength, ulong? Seed, long? Steps, long? Tokens, double? Seconds)
{
    private const int LongestText = 80;

    /// <summary>Whether it is known where the run ends.</summary>
    public bool HasEnd => (Steps, Tokens, Seconds) != (null, null, null);

    /// <summary>Share of the run that is done, 0 to 1; null where its end is not known.</summary>
    public double? Progress(RunState state)
    {
        if (!HasEnd) return null;
        double done = Math.Max(Share(state.Step, Steps), Math.Max(Share(state.Tokens, Tokens), Share(state.Seconds, Seconds)));
        return Math.Clamp(done, 0, 1);

        static double Share(double now, double? end) => end is null ? 0 : end <= 0 ? 1 : now / end.Value;
    }

    /// <summary>Reads run.json.</summary>
    /// <returns>Null where it is missing or no configuration.</returns>
    public static RunSettings? Read(string path)
    {
        try
        {
            using FileStream file = JsonLines.Open(path);
            using JsonDocument document = JsonDocument.Parse(file);
            JsonElement root = document.RootElement;
            if (root.ValueKind != JsonValueKind.Object) return null;
            return new RunSettings(
                ModelOf(root), RecipeOf(root), (long?)Number(root, "sequence_length"), Field(root, "seed") is { ValueKind: JsonValueKind.Number } seed && seed.TryGetUInt64(out ulong value) ? value : null,
                (long?)Number(root, "steps"), (long?)Number(root, "tokens"), Number(root, "seconds"));
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException or JsonException)
        {
            return null;
        }
    }

    private static string? ModelOf(JsonElement root) => Field(root, "model") switch
    {
        { ValueKind: JsonValueKind.String } name => Cut(name.GetString()!),
        { ValueKind: JsonValueKind.Object } model => string.Join(", ", new[]
        {
            Field(model, "model_type") is { ValueKind: JsonValueKind.String } type ? Cut(type.GetString()!) : null,
            Number(model, "num_hidden_layers") is { } layers ? $"{layers} layers" : null,
            Number(model, "n_routed_experts") is > 0 and var experts ? $"{experts} experts" : null,
        }.Where(part => part is not null)),
        _ => Field(root, "init_from") is { ValueKind: JsonValueKind.String } ? "of a checkpoint" : null,
    };

    private static string? RecipeOf(JsonElement root) => Field(root, "recipe") switch
    {
        { ValueKind: JsonValueKind.String } name => Cut(name.GetString()!),
        { ValueKind: JsonValueKind.Object } changed when Field(changed, "base") is { ValueKind: JsonValueKind.String } name => $"{Cut(name.GetString()!)}, changed",
        _ => null,
    };

    private static JsonElement? Field(JsonElement parent, string name) => parent.TryGetProperty(name, out JsonElement value) ? value : null;

    private static double? Number(JsonElement parent, string name) =>
        Field(parent, name) is { ValueKind: JsonValueKind.Number } value && value.TryGetDouble(out double number) && double.IsFinite(number) && Math.Abs(number) < 9e18 ? number : null;

    private static string Cut(string text) => text.Length <= LongestText ? text : text[..LongestText] + "…";
}
