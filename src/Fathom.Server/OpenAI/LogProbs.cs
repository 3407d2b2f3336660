using System.Text;
using System.Text.Json;
using Fathom.Inference;
using Fathom.Text;

namespace Fathom.Server.OpenAI;

/// <summary>Writes the log-probabilities of chats.</summary>
internal static class LogProbs
{
    /// <summary>The field logprobs of a choice.</summary>
    /// <param name="json">Within the choice.</param>
    /// <param name="tokenizer">Gives the tokens' bytes.</param>
    /// <param name="content">Tokens of the answer.</param>
    /// <param name="reasoning">Tokens of the reasoning.</param>
    public static void Write(Utf8JsonWriter json, Tokenizer tokenizer, IReadOnlyList<GeneratedToken> content, IReadOnlyList<GeneratedToken> reasoning)
    {
        json.WriteStartObject("logprobs");
        WriteTokens(json, "content", tokenizer, content);
        WriteTokens(json, "reasoning_content", tokenizer, reasoning);
        json.WriteEndObject();
    }

    /// <summary>A token's text; what is not a whole character in it comes out as U+FFFD.</summary>
    public static string Text(Tokenizer tokenizer, int id) => Encoding.UTF8.GetString(Bytes(tokenizer, id));

    private static void WriteTokens(Utf8JsonWriter json, string name, Tokenizer tokenizer, IReadOnlyList<GeneratedToken> tokens)
    {
        if (tokens.Count == 0)
        {
            json.WriteNull(name);
            return;
        }

        json.WriteStartArray(name);
        foreach (GeneratedToken token in tokens)
        {
            json.WriteStartObject();
            WriteToken(json, tokenizer, token.Id, token.LogProb);
            json.WriteStartArray("top_logprobs");
            foreach (TokenLogProb other in token.Alternatives)
            {
                json.WriteStartObject();
                WriteToken(json, tokenizer, other.Id, other.LogProb);
                json.WriteEndObject();
            }

            json.WriteEndArray();
            json.WriteEndObject();
        }

        json.WriteEndArray();
    }

    private static void WriteToken(Utf8JsonWriter json, Tokenizer tokenizer, int id, float logProb)
    {
        ReadOnlySpan<byte> bytes = Bytes(tokenizer, id);
        json.WriteString("token", Encoding.UTF8.GetString(bytes));
        json.WriteNumber("logprob", Finite(logProb));
        json.WriteStartArray("bytes");
        foreach (byte value in bytes) json.WriteNumberValue(value);
        json.WriteEndArray();
    }

    /// <summary>JSON has no infinity; OpenAI writes -9999 for what is impossible.</summary>
    public static float Finite(float logProb) => float.IsFinite(logProb) ? logProb : -9999;

    // A model's vocabulary may be larger than its tokenizer's: what is beyond has no text.
    private static ReadOnlySpan<byte> Bytes(Tokenizer tokenizer, int id) => id < tokenizer.VocabularySize ? tokenizer.TokenBytes(id) : [];
}
