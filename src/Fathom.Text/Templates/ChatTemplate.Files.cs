// Where a model folder keeps its template: chat_template.jinja, or `chat_template` in tokenizer_config.json, which is
// a string or a list of named templates. The file wins over the entry, and of a list "default" is taken, with
// "tool_use" for conversations that have tools: the rules of transformers.
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace Fathom.Text;

public sealed partial class ChatTemplate
{
    private const string ConfigName = "tokenizer_config.json";

    /// <summary>Loads the template of a model folder, with the special tokens of its tokenizer_config.json.</summary>
    /// <param name="modelFolder">A folder in the Hugging Face layout.</param>
    /// <returns>The template; null when the folder has none (a base model).</returns>
    /// <exception cref="ChatTemplateException">A file cannot be read, or the template is malformed.</exception>
    public static ChatTemplate? Load(string modelFolder)
    {
        ArgumentNullException.ThrowIfNull(modelFolder);
        if (!Directory.Exists(modelFolder)) throw new ChatTemplateException($"loading a chat template: there is no folder '{modelFolder}'");
        string configPath = Path.Combine(modelFolder, ConfigName), filePath = Path.Combine(modelFolder, "chat_template.jinja");
        JsonObject config = File.Exists(configPath) ? ReadConfig(configPath) : [];
        Dictionary<string, string> tokens = ReadTokens(config, configPath);
        if (File.Exists(filePath)) return Parse(ReadText(filePath), filePath, tokens, forTools: null);

        switch (config["chat_template"])
        {
            case null:
                return null;
            case JsonValue value when value.TryGetValue(out string? source):
                return Parse(source, configPath, tokens, forTools: null);
            case JsonArray named:
                Dictionary<string, string> sources = ReadNamed(named, configPath);
                if (!sources.TryGetValue("default", out string? main))
                {
                    throw new ChatTemplateException($"'{configPath}': chat_template has no entry named 'default', only {string.Join(", ", sources.Keys)}");
                }

                ChatTemplate? forTools = sources.TryGetValue("tool_use", out string? toolUse) ? Parse(toolUse, configPath + " (tool_use)", tokens, forTools: null) : null;
                return Parse(main, configPath, tokens, forTools);
            default:
                throw new ChatTemplateException($"'{configPath}': chat_template must be a string or a list of {{name, template}}");
        }
    }

    private static JsonObject ReadConfig(string path)
    {
        try
        {
            JsonObject config = JsonNode.Parse(ReadText(path)) as JsonObject ?? throw new ChatTemplateException($"'{path}' does not hold a JSON object");
            _ = config.Count; // properties are read lazily, and one that occurs twice fails here
            return config;
        }
        catch (Exception error) when (error is JsonException or ArgumentException)
        {
            throw new ChatTemplateException($"'{path}' is not valid JSON: {error.Message.ReplaceLineEndings(" ")}", error);
        }
    }

    private static string ReadText(string path)
    {
        try
        {
            return File.ReadAllText(path, Encoding.UTF8);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw new ChatTemplateException($"cannot read '{path}': {error.Message}", error);
        }
    }

    // bos_token, eos_token, pad_token and the like: text, or an object with the text as `content`.
    private static Dictionary<string, string> ReadTokens(JsonObject config, string path)
    {
        Dictionary<string, string> tokens = new(StringComparer.Ordinal);
        foreach ((string name, JsonNode? entry) in config)
        {
            if (!name.EndsWith("_token", StringComparison.Ordinal) || name.StartsWith("add_", StringComparison.Ordinal)) continue;
            JsonNode? content = entry is JsonObject ? entry["content"] : entry;
            if (content is JsonValue value && value.TryGetValue(out string? text)) tokens[name] = text;
            else if (entry is JsonObject) throw new ChatTemplateException($"'{path}': {name} has no text in 'content'");
        }

        return tokens;
    }

    private static Dictionary<string, string> ReadNamed(JsonArray entries, string path)
    {
        Dictionary<string, string> sources = new(StringComparer.Ordinal);
        foreach (JsonNode? entry in entries)
        {
            if (entry is not JsonObject || entry["name"] is not JsonValue name || entry["template"] is not JsonValue template ||
                !name.TryGetValue(out string? key) || !template.TryGetValue(out string? source))
            {
                throw new ChatTemplateException($"'{path}': every entry of chat_template needs a 'name' and a 'template' that are strings");
            }

            sources[key] = source;
        }

        return sources;
    }
}
