// TokenizerDefinition -> tokenizer.json and tokenizer_config.json, with the structure of DeepSeek's own files. Each file
// is written under a temporary name, flushed to the disk and renamed, so a crash leaves the old file or the new one.
using System.Text.Encodings.Web;
using System.Text.Json;

namespace Fathom.Text;

/// <summary>Writes tokenizer files that Hugging Face tokenizers and transformers read.</summary>
internal static class TokenizerWriter
{
    private static readonly JsonWriterOptions Options = new() { Indented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>Writes both files into <paramref name="folder"/>, which is created if it does not exist.</summary>
    public static void Write(TokenizerDefinition definition, string folder)
    {
        Directory.CreateDirectory(folder);
        WriteWhole(Path.Combine(folder, "tokenizer.json"), json => WriteTokenizer(json, definition));
        WriteWhole(Path.Combine(folder, "tokenizer_config.json"), json => WriteConfig(json, definition));
    }

    private static void WriteWhole(string file, Action<Utf8JsonWriter> write)
    {
        string temporary = $"{file}.{Guid.NewGuid():N}.tmp";
        try
        {
            using (var stream = new FileStream(temporary, FileMode.CreateNew))
            {
                using (var json = new Utf8JsonWriter(stream, Options)) write(json);
                stream.Flush(flushToDisk: true);
            }

            File.Move(temporary, file, overwrite: true);
        }
        finally
        {
            File.Delete(temporary); // still there only if writing failed
        }
    }

    private static void WriteTokenizer(Utf8JsonWriter json, TokenizerDefinition definition)
    {
        json.WriteStartObject();
        json.WriteString("version", "1.0");
        json.WriteNull("truncation");
        json.WriteNull("padding");
        WriteAddedTokens(json, definition);
        json.WriteNull("normalizer");
        json.WritePropertyName("pre_tokenizer");
        WritePreTokenizer(json, definition.PreTokenizer.Patterns);
        json.WritePropertyName("post_processor");
        WritePostProcessor(json, definition);
        json.WritePropertyName("decoder");
        WriteByteLevel(json, trimOffsets: true, useRegex: true);
        WriteModel(json, definition);
        json.WriteEndObject();
    }

    private static void WriteAddedTokens(Utf8JsonWriter json, TokenizerDefinition definition)
    {
        json.WriteStartArray("added_tokens");
        foreach (AddedToken token in definition.AddedTokens.OrderBy(token => token.Id))
        {
            json.WriteStartObject();
            json.WriteNumber("id", token.Id);
            json.WriteString("content", token.Content);
            json.WriteBoolean("single_word", token.SingleWord);
            json.WriteBoolean("lstrip", token.LeftStrip);
            json.WriteBoolean("rstrip", token.RightStrip);
            json.WriteBoolean("normalized", token.Normalized);
            json.WriteBoolean("special", token.Special);
            json.WriteEndObject();
        }

        json.WriteEndArray();
    }

    private static void WritePreTokenizer(Utf8JsonWriter json, IReadOnlyList<string> patterns)
    {
        json.WriteStartObject();
        json.WriteString("type", "Sequence");
        json.WriteStartArray("pretokenizers");
        foreach (string pattern in patterns)
        {
            json.WriteStartObject();
            json.WriteString("type", "Split");
            json.WriteStartObject("pattern");
            json.WriteString("Regex", pattern);
            json.WriteEndObject();
            json.WriteString("behavior", "Isolated");
            json.WriteBoolean("invert", false);
            json.WriteEndObject();
        }

        WriteByteLevel(json, trimOffsets: true, useRegex: false);
        json.WriteEndArray();
        json.WriteEndObject();
    }

    // A template puts the begin-of-sequence token before a text whichever tokenizer class reads the file;
    // add_bos_token of the configuration is honoured by some classes only.
    private static void WritePostProcessor(Utf8JsonWriter json, TokenizerDefinition definition)
    {
        if (!definition.AddsBos || definition.BosId is not int bos)
        {
            WriteByteLevel(json, trimOffsets: false, useRegex: true);
            return;
        }

        string name = NameOf(bos, definition);
        json.WriteStartObject();
        json.WriteString("type", "Sequence");
        json.WriteStartArray("processors");
        WriteByteLevel(json, trimOffsets: false, useRegex: true);
        json.WriteStartObject();
        json.WriteString("type", "TemplateProcessing");
        WriteTemplate(json, "single", name, "A");
        WriteTemplate(json, "pair", name, "A", "B");
        json.WriteStartObject("special_tokens");
        json.WriteStartObject(name);
        json.WriteString("id", name);
        json.WriteStartArray("ids");
        json.WriteNumberValue(bos);
        json.WriteEndArray();
        json.WriteStartArray("tokens");
        json.WriteStringValue(name);
        json.WriteEndArray();
        json.WriteEndObject();
        json.WriteEndObject();
        json.WriteEndObject();
        json.WriteEndArray();
        json.WriteEndObject();
    }

    private static void WriteTemplate(Utf8JsonWriter json, string field, string bos, params ReadOnlySpan<string> sequences)
    {
        json.WriteStartArray(field);
        for (int type = 0; type < sequences.Length; type++)
        {
            WritePiece("SpecialToken", bos, type);
            WritePiece("Sequence", sequences[type], type);
        }

        json.WriteEndArray();

        void WritePiece(string kind, string id, int type)
        {
            json.WriteStartObject();
            json.WriteStartObject(kind);
            json.WriteString("id", id);
            json.WriteNumber("type_id", type);
            json.WriteEndObject();
            json.WriteEndObject();
        }
    }

    // Without a prefix space everywhere: in the post-processor and the decoder the flag has no effect on ids or text.
    private static void WriteByteLevel(Utf8JsonWriter json, bool trimOffsets, bool useRegex)
    {
        json.WriteStartObject();
        json.WriteString("type", "ByteLevel");
        json.WriteBoolean("add_prefix_space", false);
        json.WriteBoolean("trim_offsets", trimOffsets);
        json.WriteBoolean("use_regex", useRegex);
        json.WriteEndObject();
    }

    private static void WriteModel(Utf8JsonWriter json, TokenizerDefinition definition)
    {
        json.WriteStartObject("model");
        json.WriteString("type", "BPE");
        json.WriteNull("dropout");
        json.WriteNull("unk_token");
        json.WriteNull("continuing_subword_prefix");
        json.WriteNull("end_of_word_suffix");
        json.WriteBoolean("fuse_unk", false);
        json.WriteBoolean("byte_fallback", false);
        if (definition.IgnoreMerges) json.WriteBoolean("ignore_merges", true);
        json.WriteStartObject("vocab");
        KeyValuePair<string, int>[] entries = [.. definition.Vocabulary.OrderBy(entry => entry.Value)];
        foreach ((string token, int id) in entries) json.WriteNumber(token, id);
        json.WriteEndObject();

        Dictionary<int, string> tokens = entries.ToDictionary(entry => entry.Value, entry => entry.Key);
        json.WriteStartArray("merges");
        foreach (Merge merge in definition.Merges) json.WriteStringValue($"{tokens[merge.Left]} {tokens[merge.Right]}");
        json.WriteEndArray();
        json.WriteEndObject();
    }

    private static void WriteConfig(Utf8JsonWriter json, TokenizerDefinition definition)
    {
        json.WriteStartObject();
        json.WriteBoolean("add_bos_token", definition.AddsBos);
        json.WriteBoolean("add_eos_token", false);
        WriteRole(json, "bos_token", definition.BosId, definition);
        WriteRole(json, "eos_token", definition.EosId, definition);
        WriteRole(json, "pad_token", definition.PadId, definition);
        json.WriteNull("unk_token");
        json.WriteBoolean("clean_up_tokenization_spaces", false);
        if (definition.ModelMaxLength is long length) json.WriteNumber("model_max_length", length);
        json.WriteString("tokenizer_class", "PreTrainedTokenizerFast"); // takes tokenizer.json as it is
        if (definition.ChatTemplate is string template) json.WriteString("chat_template", template);
        json.WriteEndObject();
    }

    private static void WriteRole(Utf8JsonWriter json, string name, int? id, TokenizerDefinition definition)
    {
        if (id is null) json.WriteNull(name);
        else json.WriteString(name, NameOf(id.Value, definition));
    }

    private static string NameOf(int id, TokenizerDefinition definition) =>
        definition.AddedTokens.FirstOrDefault(token => token.Id == id)?.Content ?? definition.Vocabulary.First(entry => entry.Value == id).Key;
}
