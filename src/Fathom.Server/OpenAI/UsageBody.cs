using System.Text.Json;
using Fathom.Server.Answers;

namespace Fathom.Server.OpenAI;

/// <summary>The usage of an answer, as DeepSeek and OpenAI have it.</summary>
internal static class UsageBody
{
    /// <summary>The field usage.</summary>
    public static void Write(Utf8JsonWriter json, TokenUsage usage)
    {
        json.WriteStartObject("usage");
        json.WriteNumber("prompt_tokens", usage.PromptTokens);
        json.WriteNumber("completion_tokens", usage.OutputTokens);
        json.WriteNumber("total_tokens", usage.TotalTokens);
        json.WriteStartObject("prompt_tokens_details");
        json.WriteNumber("cached_tokens", usage.HitTokens);
        json.WriteEndObject();
        json.WriteStartObject("completion_tokens_details");
        json.WriteNumber("reasoning_tokens", usage.ReasoningTokens);
        json.WriteEndObject();
        json.WriteNumber("prompt_cache_hit_tokens", usage.HitTokens);
        json.WriteNumber("prompt_cache_miss_tokens", usage.MissTokens);
        json.WriteEndObject();
    }
}
