// The variables that a template starts with, named and shaped as transformers' apply_chat_template does it.
using System.Text.Json;
using System.Text.Json.Nodes;

namespace Fathom.Text.Templates;

internal static class TemplateInput
{
    public static Scope Variables(IReadOnlyDictionary<string, string> specialTokens, IReadOnlyList<ChatMessage> messages, ChatTemplateOptions options)
    {
        Scope scope = new(null);
        foreach ((string name, string token) in specialTokens) scope.Set(name, token);
        if (options.BosToken is not null) scope.Set("bos_token", options.BosToken);
        if (options.EosToken is not null) scope.Set("eos_token", options.EosToken);

        List<object> list = new(messages.Count);
        for (int index = 0; index < messages.Count; index++) list.Add(Message(messages[index], index, options.ToolArguments));
        scope.Set("messages", list);
        scope.Set("add_generation_prompt", options.AddGenerationPrompt);
        scope.Set("tools", JsonValues.From(options.Tools, "tools"));
        scope.Set("documents", None.Value);
        foreach ((string name, JsonNode? value) in options.Variables ?? []) scope.Set(name, JsonValues.From(value, $"template variable '{name}'"));
        return scope;
    }

    private static TemplateDictionary Message(ChatMessage message, int index, ToolArgumentForm toolArguments)
    {
        string what = $"message {index}";
        if (message?.Role is null) throw new ChatTemplateException($"{what}: the role is missing");
        TemplateDictionary dictionary = new();
        dictionary.Set("role", message.Role);
        dictionary.Set("content", message.ContentParts is null ? (object?)message.Content ?? None.Value : JsonValues.From(message.ContentParts, what));
        if (message.ReasoningContent is not null) dictionary.Set("reasoning_content", message.ReasoningContent);
        if (message.ToolCalls is not null) dictionary.Set("tool_calls", ToolCalls(message.ToolCalls, what + ", tool_calls", toolArguments));
        if (message.Name is not null) dictionary.Set("name", message.Name);
        if (message.ToolCallId is not null) dictionary.Set("tool_call_id", message.ToolCallId);
        foreach ((string name, JsonNode? value) in message.Extra ?? []) dictionary.Set(name, JsonValues.From(value, $"{what}, {name}"));
        return dictionary;
    }

    private static object ToolCalls(JsonArray calls, string what, ToolArgumentForm form)
    {
        if (form == ToolArgumentForm.AsGiven) return JsonValues.From(calls, what);
        JsonArray changed = calls.DeepClone().AsArray();
        foreach (JsonNode? call in changed)
        {
            if (call is not JsonObject || call["function"] is not JsonObject function || function["arguments"] is not { } arguments) continue;
            bool isText = arguments.GetValueKind() == JsonValueKind.String;
            if (form == ToolArgumentForm.Object && isText) function["arguments"] = ParseArguments(arguments.GetValue<string>(), what);
            if (form == ToolArgumentForm.Text && !isText) function["arguments"] = Dump(arguments, what);
        }

        return JsonValues.From(changed, what);
    }

    private static JsonNode? ParseArguments(string text, string what)
    {
        try
        {
            return text.Length == 0 ? new JsonObject() : JsonNode.Parse(text);
        }
        catch (JsonException error)
        {
            throw new ChatTemplateException($"{what}: 'arguments' is not JSON: {error.Message.ReplaceLineEndings(" ")}", error);
        }
    }

    private static string Dump(JsonNode arguments, string what)
    {
        RenderRun run = new("tool arguments", ChatTemplateLimits.Default, now: null);
        return PythonJson.Write(run, JsonValues.From(arguments, what), new(null, ", ", ": ", EscapeNonAscii: false, SortKeys: false));
    }
}
