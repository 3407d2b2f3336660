// Files of other libraries, files that lie, and files that are broken: a readable error that names the field, or the ids
// that the file asks for.
using System.Text;
using System.Text.Json.Nodes;
using Fathom.Testing;
using Xunit;

namespace Fathom.Text.Tests.Tokenizers;

public sealed class TokenizerFileTests(ITestOutputHelper output)
{
    [Fact]
    public void What_is_saved_loads_and_encodes_alike()
    {
        using var folder = new TemporaryFolder();
        Tokenizer small = TokenizerFixtures.Small;
        small.Save(folder.Path, chatTemplate: "{{ messages }}", modelMaxLength: 4096);
        Assert.Equal(["tokenizer.json", "tokenizer_config.json"], Directory.GetFiles(folder.Path).Select(Path.GetFileName).Order());
        Tokenizer copy = Tokenizer.Load(folder.File("tokenizer.json"));
        var random = new Random(19);
        for (int i = 0; i < 2000; i++)
        {
            string text = TokenizerFixtures.RandomText(random, 20) + "<｜User｜> smaller corpus";
            Assert.Equal(small.Encode(text), copy.Encode(text));
        }

        Assert.Same(PreTokenizer.DeepSeekV3, copy.PreTokenizer);
        Assert.Equal("{{ messages }}", copy.ChatTemplate);
        Assert.True(copy.AddsBos);
        Assert.Equal((0, 1, 2, small.VocabularySize), (copy.BosId, copy.EosId, copy.PadId, copy.VocabularySize));

        copy.Save(folder.Path); // over the files it came from
        Assert.Equal("{{ messages }}", Tokenizer.Load(folder.Path).ChatTemplate);
        Assert.Equal(2, Directory.GetFiles(folder.Path).Length);
        output.WriteLine("2000 random texts encode alike after saving and loading");
    }

    [Fact]
    public void The_saved_file_has_the_structure_of_the_published_one()
    {
        JsonNode file = SmallFile();
        Assert.Equal(["version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder", "model"], file.AsObject().Select(field => field.Key));
        Assert.Equal(["Split", "Split", "Split", "ByteLevel"], file["pre_tokenizer"]!["pretokenizers"]!.AsArray().Select(step => (string)step!["type"]!));
        Assert.Equal(320, file["model"]!["vocab"]!.AsObject().Count);
        Assert.Equal(Enumerable.Range(0, 320), file["model"]!["vocab"]!.AsObject().Select(entry => (int)entry.Value!));
    }

    [Fact]
    public void Merges_as_pairs_and_a_bare_ByteLevel_load()
    {
        string[] words = [" the", " smaller", "'s"];
        JsonNode file = SmallFile();
        file["model"]!["merges"] = new JsonArray([.. file["model"]!["merges"]!.AsArray().Select(merge => (JsonNode)new JsonArray([.. ((string)merge!).Split(' ').Select(part => (JsonNode)part)]))]);
        file["pre_tokenizer"] = JsonNode.Parse("""{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true}""");
        Tokenizer gpt2 = Load(file);
        Assert.Same(PreTokenizer.Gpt2, gpt2.PreTokenizer);
        foreach (string word in words) Assert.Equal(TokenizerFixtures.Small.Encode(word), gpt2.Encode(word));
    }

    [Fact]
    public void Digits_and_literal_splits_load()
    {
        JsonNode file = SmallFile();
        file["pre_tokenizer"] = JsonNode.Parse("""
            {"type":"Sequence","pretokenizers":[
              {"type":"Split","pattern":{"String":"."},"behavior":"Isolated","invert":false},
              {"type":"Digits","individual_digits":true},
              {"type":"ByteLevel","add_prefix_space":false,"use_regex":false}]}
            """);
        List<int> ends = [];
        Load(file).PreTokenizer.Split("ab12.c", ends);
        Assert.Equal([2, 3, 4, 5, 6], ends);
    }

    [Fact]
    public void With_ignore_merges_a_word_that_is_a_token_stays_whole()
    {
        JsonNode file = SmallFile();
        file["model"]!["vocab"]!["zqx"] = 320;
        Assert.Equal(3, Load(file).Encode("zqx").Length);
        file["model"]!["ignore_merges"] = true;
        Assert.Equal([320], Load(file).Encode("zqx"));
        Assert.Equal([320], Load(file).Encode("zqx"));
    }

    [Fact]
    public void Added_tokens_strip_and_stand_alone_as_their_flags_say()
    {
        JsonNode file = SmallFile();
        foreach ((string content, int id, string flag) in new[] { ("<l>", 320, "lstrip"), ("<r>", 321, "rstrip"), ("word", 322, "single_word"), ("<n>", 323, "normalized"), ("<nn>", 324, "normalized") })
        {
            var token = new JsonObject { ["id"] = id, ["content"] = content, ["special"] = false, [flag] = true };
            file["added_tokens"]!.AsArray().Add(token);
        }

        Tokenizer tokenizer = Load(file);
        Assert.Equal("a|<l>|b|<r>|c", Tokens("a \n<l>b<r>  c"));
        Assert.Equal("<r>|<l>|a", Tokens("<r> <l>a")); // the space is taken once
        Assert.Equal("word", Tokens("word"));
        Assert.Equal(["word", ".", "word"], tokenizer.Encode("word.word").Select(id => tokenizer.Decode([id])));
        Assert.DoesNotContain(322, tokenizer.Encode("words sword word_"));
        Assert.Equal("<nn>|<n>", Tokens("<nn><n>"));
        Assert.False(tokenizer.IsSpecial(320));

        string Tokens(string text) => string.Join('|', tokenizer.Encode(text).Select(id => tokenizer.Decode([id])));
    }

    [Fact]
    public void Special_tokens_are_read_from_the_files_beside()
    {
        using var folder = new TemporaryFolder();
        File.WriteAllText(folder.File("tokenizer.json"), SmallFile().ToJsonString());
        File.WriteAllText(folder.File("special_tokens_map.json"), """{"bos_token":"<｜User｜>","eos_token":{"content":"<｜Assistant｜>"}}""");
        File.WriteAllText(folder.File("tokenizer_config.json"), """{"add_bos_token":false,"eos_token":"<｜fim▁end｜>","model_max_length":1e30,"chat_template":[{"name":"default","template":"T"}]}""");
        Tokenizer tokenizer = Tokenizer.Load(folder.Path);
        Assert.Equal((3, 7, 2, false, "T"), (tokenizer.BosId, tokenizer.EosId, tokenizer.PadId, tokenizer.AddsBos, tokenizer.ChatTemplate));

        File.WriteAllText(folder.File("tokenizer_config.json"), """{"eos_token":"<nowhere>"}""");
        Complains(() => Tokenizer.Load(folder.Path), "eos_token", "<nowhere>", "tokenizer_config.json");
        File.WriteAllText(folder.File("tokenizer_config.json"), "{");
        Complains(() => Tokenizer.Load(folder.Path), "not valid JSON", "tokenizer_config.json");
    }

    [Theory]
    [InlineData("model", "null", "field model is missing")]
    [InlineData("model", "[]", "field model", "expected a JSON object, found a JSON array")]
    [InlineData("model.type", "\"WordPiece\"", "model.type", "WordPiece", "BPE")]
    [InlineData("model.vocab", "\"x\"", "model.vocab", "expected a JSON object")]
    [InlineData("model.vocab.xyz", "-3", "model.vocab[\"xyz\"]", "-3")]
    [InlineData("model.vocab.xyz", "1.5", "model.vocab[\"xyz\"]", "1.5")]
    [InlineData("model.vocab.xyz", "99999999999", "model.vocab[\"xyz\"]")]
    [InlineData("model.vocab.xyz", "100", "model.vocab[\"xyz\"]", "already that of")]
    [InlineData("model.vocab", "{\"a\":0}", "model.vocab", "byte 0x00", "all 256")]
    [InlineData("model.merges", "[\"a zzz\"]", "model.merges[0]", "\"zzz\"", "not in model.vocab")]
    [InlineData("model.merges", "[\"q q\"]", "model.merges[0]", "\"qq\"", "not in model.vocab")]
    [InlineData("model.merges", "[\"a\"]", "model.merges[0]", "two tokens")]
    [InlineData("model.merges", "[[\"a\",\"b\",\"c\"]]", "model.merges[0]", "two tokens")]
    [InlineData("model.merges", "[7]", "model.merges[0]", "number")]
    [InlineData("model.dropout", "0.1", "model.dropout")]
    [InlineData("model.byte_fallback", "true", "model.byte_fallback")]
    [InlineData("model.continuing_subword_prefix", "\"##\"", "model.continuing_subword_prefix")]
    [InlineData("model.ignore_merges", "1", "model.ignore_merges", "true or false")]
    [InlineData("normalizer", "{\"type\":\"NFC\"}", "normalizer", "not supported")]
    [InlineData("decoder", "{\"type\":\"Metaspace\"}", "decoder", "ByteLevel")]
    [InlineData("pre_tokenizer", "null", "pre_tokenizer is missing")]
    [InlineData("pre_tokenizer", "{\"type\":\"Metaspace\"}", "pre_tokenizer")]
    [InlineData("pre_tokenizer", "{\"type\":\"ByteLevel\",\"add_prefix_space\":true}", "pre_tokenizer.add_prefix_space")]
    [InlineData("pre_tokenizer", "{\"type\":\"Sequence\",\"pretokenizers\":[]}", "pre_tokenizer", "ByteLevel")]
    [InlineData("pre_tokenizer", "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(\"},\"behavior\":\"Isolated\"},{\"type\":\"ByteLevel\"}]}", "pre_tokenizer", "(")]
    [InlineData("pre_tokenizer", "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"},\"behavior\":\"Removed\"},{\"type\":\"ByteLevel\"}]}", "behavior", "Removed", "Isolated")]
    [InlineData("post_processor", "{\"type\":\"BertProcessing\"}", "post_processor", "BertProcessing")]
    [InlineData("added_tokens", "[{\"id\":5,\"content\":\"<x>\"}]", "added_tokens[0]", "already that of")]
    [InlineData("added_tokens", "[{\"id\":900,\"content\":\"a\"}]", "added_tokens[0]", "900")]
    [InlineData("added_tokens", "[{\"id\":-900,\"content\":\"<x>\"}]", "added_tokens[0].id", "-900")]
    [InlineData("added_tokens", "[{\"id\":900,\"content\":\"\"}]", "added_tokens[0]", "empty")]
    [InlineData("added_tokens", "[{\"content\":\"<x>\"}]", "added_tokens[0]", "field id is missing")]
    public void A_broken_field_is_named(string path, string json, params string[] expected)
    {
        JsonNode file = SmallFile();
        string[] parts = path.Split('.');
        JsonNode parent = file;
        foreach (string part in parts[..^1]) parent = parent[part]!;
        parent[parts[^1]] = JsonNode.Parse(json);
        Complains(() => Load(file), [.. expected, "tokenizer.json"]);
    }

    [Fact]
    public void A_file_that_is_cut_off_missing_or_something_else_is_refused()
    {
        using var folder = new TemporaryFolder();
        string file = folder.File("tokenizer.json");
        Complains(() => Tokenizer.Load(folder.Path), "tokenizer.json", "reading the tokenizer");
        string whole = SmallFile().ToJsonString();
        foreach (string text in new[] { "", "null", "[]", "{}", "7", whole[..(whole.Length / 2)], whole[..^1], whole + "}", "\u007FELF" })
        {
            File.WriteAllText(file, text);
            Complains(() => Tokenizer.Load(folder.Path), "tokenizer.json");
        }

        File.WriteAllText(file, whole.Replace("\"version\":", "\"model\":{},\"version\":", StringComparison.Ordinal));
        Complains(() => Tokenizer.Load(folder.Path), "tokenizer.json", "model");
        File.WriteAllText(file, whole.Replace("\"content\":\"<｜User｜>\"", "\"content\":\"\\uD800\"", StringComparison.Ordinal).Replace("\\uFF5CUser\\uFF5C", "\\uD800", StringComparison.Ordinal));
        Complains(() => Tokenizer.Load(folder.Path), "tokenizer.json");
    }

    [Fact]
    public void Mutated_files_load_or_are_refused_and_nothing_else()
    {
        using var folder = new TemporaryFolder();
        string path = folder.File("tokenizer.json");
        byte[] whole = Encoding.UTF8.GetBytes(SmallFile().ToJsonString(new() { Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping }));
        var random = new Random(23);
        int loaded = 0, refused = 0;
        for (int i = 0; i < 4000; i++)
        {
            byte[] bytes = Mutate(whole, random);
            File.WriteAllBytes(path, bytes);
            try
            {
                Tokenizer tokenizer = Tokenizer.Load(path);
                Assert.Equal("the small\0é😀", tokenizer.Decode(tokenizer.Encode("the small\0é😀")));
                loaded++;
            }
            catch (TextFormatException failure)
            {
                Assert.DoesNotContain('\n', failure.Message);
                refused++;
            }
            catch (Exception failure) when (failure is not Xunit.Sdk.IAssertionException)
            {
                Assert.Fail($"case {i}: {failure}");
            }
        }

        Assert.True(loaded > 100 && refused > 100);
        output.WriteLine($"4000 mutated files: {loaded} loaded, {refused} refused with a TextFormatException");
    }

    private static byte[] Mutate(byte[] whole, Random random)
    {
        byte[] bytes = [.. whole];
        int changes = random.Next(1, 4);
        for (int i = 0; i < changes; i++)
        {
            // Half of the changes hit the structure before the vocabulary, which is most of the file.
            int at = random.Next(random.Next(2) == 0 ? bytes.Length : Math.Min(4000, bytes.Length));
            int length = Math.Min(random.Next(1, 30), bytes.Length - at);
            switch (random.Next(5))
            {
                case 0: bytes[at] = (byte)random.Next(256); break;
                case 1: bytes[at] = (byte)"{}[]\",:0-9e\\ tfn"[random.Next(16)]; break;
                case 2: bytes = [.. bytes[..at], .. bytes[(at + length)..]]; break;
                case 3: bytes = [.. bytes[..at], .. bytes[at..(at + length)], .. bytes[at..]]; break;
                default: (bytes[at], bytes[(at + length) % bytes.Length]) = (bytes[(at + length) % bytes.Length], bytes[at]); break;
            }
        }

        return bytes;
    }

    private static JsonNode SmallFile()
    {
        using var folder = new TemporaryFolder();
        TokenizerFixtures.Small.Save(folder.Path);
        return JsonNode.Parse(File.ReadAllBytes(folder.File("tokenizer.json")))!;
    }

    private static Tokenizer Load(JsonNode file)
    {
        using var folder = new TemporaryFolder();
        File.WriteAllText(folder.File("tokenizer.json"), file.ToJsonString());
        return Tokenizer.Load(folder.Path);
    }

    private void Complains(Action load, params string[] expected)
    {
        TextFormatException refused = Assert.Throws<TextFormatException>(load);
        output.WriteLine(refused.Message);
        foreach (string part in expected) Assert.Contains(part, refused.Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', refused.Message);
    }
}
