// The files beside tokenizer.json that say which tokens begin, end and pad a sequence. Later sources fill what earlier
// ones leave open: tokenizer_config.json, special_tokens_map.json, tokenizer.json's own template, DeepSeek's names.
using System.Text.Json;

namespace Fathom.Text;

/// <summary>Completes a tokenizer from the configuration files in its folder.</summary>
internal static class TokenizerConfigReader
{
    /// <exception cref="TextFormatException">A file is broken or names a token that does not exist.</exception>
    public static TokenizerDefinition Apply(TokenizerDefinition definition, string folder)
    {
        TokenizerDefinition read = ReadConfig(definition with { BosId = null }, Path.Combine(folder, "tokenizer_config.json"));
        read = ReadRoles(read, Path.Combine(folder, "special_tokens_map.json"));
        string template = Path.Combine(folder, "chat_template.jinja");
        if (read.ChatTemplate is null && File.Exists(template)) read = read with { ChatTemplate = File.ReadAllText(template) };
        return read with
        {
            BosId = read.BosId ?? definition.BosId ?? Find(read, SpecialTokenNames.BeginOfSentence),
            EosId = read.EosId ?? Find(read, SpecialTokenNames.EndOfSentence),
            PadId = read.PadId ?? Find(read, SpecialTokenNames.Pad),
        };
    }

    private static TokenizerDefinition ReadConfig(TokenizerDefinition definition, string file)
    {
        definition = ReadRoles(definition, file);
        if (!File.Exists(file)) return definition;
        using JsonDocument document = JsonField.ReadFile(file, "tokenizer configuration");
        return JsonField.Guard(file, () =>
        {
            JsonField root = new(file, "", document.RootElement);
            return definition with
            {
                AddsBos = root.Flag("add_bos_token", definition.AddsBos),
                ChatTemplate = root.Optional("chat_template") is JsonField template ? DefaultTemplate(template) : null,
                ModelMaxLength = root.Optional("model_max_length") is JsonField length && length.Number() is >= 1 and < 1e15
                    ? (long)length.Number() // transformers writes 1e30 for "no limit"
                    : null,
            };
        });
    }

    private static TokenizerDefinition ReadRoles(TokenizerDefinition definition, string file)
    {
        if (!File.Exists(file)) return definition;
        using JsonDocument document = JsonField.ReadFile(file, "special tokens of a tokenizer");
        return JsonField.Guard(file, () =>
        {
            JsonField root = new(file, "", document.RootElement);
            return definition with
            {
                BosId = definition.BosId ?? Role("bos_token"),
                EosId = definition.EosId ?? Role("eos_token"),
                PadId = definition.PadId ?? Role("pad_token"),
            };

            int? Role(string name)
            {
                if (root.Optional(name) is not JsonField field) return null;
                string content = (field.Kind == JsonValueKind.Object ? field.Required("content") : field).Text();
                return Find(definition, content) ?? throw field.Refused($"{JsonField.Quote(content)} is not a token of tokenizer.json");
            }
        });
    }

    private static string DefaultTemplate(JsonField template)
    {
        if (template.Kind != JsonValueKind.Array) return template.Text();
        foreach (JsonField named in template.Items())
        {
            if (named.Required("name").Text() == "default") return named.Required("template").Text();
        }

        throw template.Refused("none of the templates is named \"default\"");
    }

    private static int? Find(TokenizerDefinition definition, string content) =>
        definition.AddedTokens.FirstOrDefault(token => token.Content == content)?.Id
        ?? (definition.Vocabulary.TryGetValue(content, out int id) ? id : null);
}
