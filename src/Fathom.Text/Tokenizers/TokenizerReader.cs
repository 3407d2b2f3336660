// tokenizer.json -> TokenizerDefinition. The format says much more than byte-level BPE needs; what would change the ids
// and is not supported is refused by the name of its field, never ignored. `truncation` and `padding` belong to the
// caller and are ignored. Files hold merges as "a b" (DeepSeek) or as ["a","b"] (newer libraries).
using System.Text.Json;
using System.Text.RegularExpressions;

namespace Fathom.Text;

/// <summary>Reads and validates tokenizer files.</summary>
internal static class TokenizerReader
{
    private const int LargestId = (1 << 22) - 1; // a bound on memory: no published vocabulary comes near

    /// <param name="path">tokenizer.json or the folder that holds it.</param>
    /// <exception cref="TextFormatException">A file is missing, broken or not supported.</exception>
    public static TokenizerDefinition Read(string path)
    {
        string file = Directory.Exists(path) ? Path.Combine(path, "tokenizer.json") : path;
        using JsonDocument document = JsonField.ReadFile(file, "tokenizer");
        TokenizerDefinition definition = JsonField.Guard(file, () => ReadModel(new JsonField(file, "", document.RootElement)));
        return TokenizerConfigReader.Apply(definition, Path.GetDirectoryName(Path.GetFullPath(file))!);
    }

    private static TokenizerDefinition ReadModel(JsonField root)
    {
        root.MustBe(JsonValueKind.Object);
        CheckNormalizer(root.Optional("normalizer"));
        if (root.Optional("decoder") is JsonField decoder && decoder.Type() != "ByteLevel")
            throw decoder.Refused("its type is not supported; expected ByteLevel");

        JsonField model = root.Required("model").MustBe(JsonValueKind.Object);
        if (model.Optional("type") is JsonField type && type.Text() != "BPE")
            throw type.Refused($"a {JsonField.Quote(type.Text())} model is not supported; expected BPE");
        foreach (string affix in new[] { "continuing_subword_prefix", "end_of_word_suffix" })
        {
            if (model.Optional(affix) is JsonField field && field.Text().Length > 0) throw field.Refused("it must be null for byte-level BPE");
        }

        if (model.Optional("dropout") is JsonField dropout && dropout.Number() != 0) throw dropout.Refused("it must be null: encoding is deterministic");
        if (model.Flag("byte_fallback")) throw model.Required("byte_fallback").Refused("it must be false: every byte is a token already");

        Dictionary<string, int> vocabulary = ReadVocabulary(model.Required("vocab"));
        AddedToken[] added = ReadAddedTokens(root.Optional("added_tokens"), vocabulary);
        var definition = new TokenizerDefinition
        {
            Vocabulary = vocabulary,
            Merges = ReadMerges(model.Required("merges"), vocabulary),
            AddedTokens = added,
            PreTokenizer = ReadPreTokenizer(root.Optional("pre_tokenizer") ?? throw root.Refused("field pre_tokenizer is missing; byte-level BPE needs one that ends in ByteLevel")),
            IgnoreMerges = model.Flag("ignore_merges"),
        };
        return TemplateBos(root.Optional("post_processor"), added) is int bos ? definition with { BosId = bos, AddsBos = true } : definition;
    }

    private static void CheckNormalizer(JsonField? normalizer)
    {
        if (normalizer is not JsonField field) return;
        if (field.Type() != "Sequence" || field.Required("normalizers").Items().Any())
            throw field.Refused("normalizers are not supported; expected null or an empty Sequence");
    }

    private static Dictionary<string, int> ReadVocabulary(JsonField vocab)
    {
        var ids = new Dictionary<string, int>(StringComparer.Ordinal);
        var owners = new Dictionary<int, string>();
        foreach ((string token, JsonField field) in vocab.Members())
        {
            int id = field.Integer(0, LargestId);
            if (!ids.TryAdd(token, id)) throw field.Refused("the token stands twice");
            if (!owners.TryAdd(id, token)) throw field.Refused($"id {id} is already that of {JsonField.Quote(owners[id])}");
        }

        for (int value = 0; value < 256; value++)
        {
            if (!ids.ContainsKey(ByteLevelAlphabet.ToCharacter((byte)value).ToString()))
                throw vocab.Refused($"byte 0x{value:X2} has no token ({JsonField.Quote(ByteLevelAlphabet.ToCharacter((byte)value).ToString())}); a byte-level vocabulary holds all 256");
        }

        return ids;
    }

    private static List<Merge> ReadMerges(JsonField merges, Dictionary<string, int> vocabulary)
    {
        List<Merge> result = [];
        foreach (JsonField merge in merges.Items())
        {
            string[] parts = merge.Kind == JsonValueKind.String ? merge.Text().Split(' ') : [.. merge.Items().Select(part => part.Text())];
            if (parts.Length != 2) throw merge.Refused("expected two tokens");
            result.Add(new Merge(Id(parts[0]), Id(parts[1]), Id(parts[0] + parts[1])));

            int Id(string token) => vocabulary.TryGetValue(token, out int id)
                ? id
                : throw merge.Refused($"it names {JsonField.Quote(token)}, which is not in model.vocab");
        }

        return result;
    }

    private static AddedToken[] ReadAddedTokens(JsonField? list, Dictionary<string, int> vocabulary)
    {
        if (list is not JsonField field) return [];
        Dictionary<int, string> owners = vocabulary.ToDictionary(entry => entry.Value, entry => entry.Key);
        HashSet<string> seen = [];
        List<AddedToken> result = [];
        foreach (JsonField item in field.Items())
        {
            string content = item.Required("content").Text();
            int id = item.Required("id").Integer(0, LargestId);
            if (content.Length == 0) throw item.Refused("content is empty");
            if (!seen.Add(content)) throw item.Refused($"{JsonField.Quote(content)} stands twice");
            if (!owners.TryAdd(id, content) && owners[id] != content) throw item.Refused($"id {id} of {JsonField.Quote(content)} is already that of {JsonField.Quote(owners[id])}");
            if (vocabulary.TryGetValue(content, out int known) && known != id) throw item.Refused($"{JsonField.Quote(content)} has id {id} here and {known} in model.vocab");
            result.Add(new AddedToken(id, content, item.Flag("special"), item.Flag("normalized"), item.Flag("lstrip"), item.Flag("rstrip"), item.Flag("single_word")));
        }

        return [.. result];
    }

    private static PreTokenizer ReadPreTokenizer(JsonField field)
    {
        JsonField[] steps = field.Type() == "Sequence" ? [.. field.Required("pretokenizers").Items()] : [field];
        List<string> patterns = [];
        for (int i = 0; i < steps.Length; i++)
        {
            string type = steps[i].Type();
            if ((type == "ByteLevel") != (i == steps.Length - 1)) throw field.Refused("expected splits and then one ByteLevel");
            if (StepPattern(steps[i], type) is string pattern) patterns.Add(pattern);
        }

        if (steps.Length == 0) throw field.Refused("expected splits and then one ByteLevel");
        try
        {
            return PreTokenizer.FromPatterns(patterns);
        }
        catch (TextFormatException failure)
        {
            throw field.Refused(failure.Message, failure);
        }
    }

    private static string? StepPattern(JsonField step, string type)
    {
        switch (type)
        {
            case "ByteLevel":
                if (step.Flag("add_prefix_space")) throw step.Required("add_prefix_space").Refused("only false is supported");
                return step.Flag("use_regex", otherwise: true) ? PreTokenizer.Gpt2Pattern : null;
            case "Digits":
                return step.Flag("individual_digits") ? @"\p{N}" : @"\p{N}+";
            case "Split":
                JsonField behavior = step.Required("behavior");
                if (behavior.Text() != "Isolated") throw behavior.Refused($"{JsonField.Quote(behavior.Text())} is not supported; expected Isolated");
                JsonField pattern = step.Required("pattern");
                return pattern.Optional("Regex") is JsonField regex ? regex.Text() : Regex.Escape(pattern.Required("String").Text());
            default:
                throw step.Refused($"type {JsonField.Quote(type)} is not supported; expected Split, Digits or ByteLevel");
        }
    }

    /// <summary>The token that a TemplateProcessing puts before a text, if there is one.</summary>
    private static int? TemplateBos(JsonField? processor, AddedToken[] added)
    {
        if (processor is not JsonField field) return null;
        switch (field.Type())
        {
            case "ByteLevel":
                return null;
            case "Sequence":
                return field.Required("processors").Items().Select(inner => TemplateBos(inner, added)).FirstOrDefault(id => id is not null);
            case "TemplateProcessing":
                JsonField[] single = [.. field.Required("single").Items()];
                if (single.Length == 0 || single[0].Optional("SpecialToken") is not JsonField special) return null;
                JsonField name = special.Required("id");
                return added.FirstOrDefault(token => token.Content == name.Text())?.Id
                    ?? throw name.Refused($"{JsonField.Quote(name.Text())} is not among added_tokens");
            default:
                throw field.Refused($"type {JsonField.Quote(field.Type())} is not supported; expected ByteLevel, TemplateProcessing or a Sequence of them");
        }
    }
}
