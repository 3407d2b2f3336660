// Every row of the reference ids, and its text back from them.
//
// The tokenizer.json beside the rows is that of V3.1 and R1: it names ids 128798 and 128799 <think> and </think>, with the
// flags of <｜User｜>. In V3's first file they are placeholders, and the one row that holds those texts has the ids of that
// file. So the rows are checked against the file with the two names put back, and the names against the file as it is.
using System.Text;
using System.Text.Json;
using Fathom.Testing;
using Xunit;

namespace Fathom.Text.Tests.Tokenizers;

public sealed class DeepSeekGoldenTests(ITestOutputHelper output)
{
    private static Tokenizer WithThinkAsPlaceholders()
    {
        using var folder = new TemporaryFolder();
        string file = File.ReadAllText(Golden.Shared("tokenizer", "tokenizer.json"));
        string first = file.Replace("\"content\": \"<think>\"", "\"content\": \"<｜place▁holder▁no▁798｜>\"", StringComparison.Ordinal)
            .Replace("\"content\": \"</think>\"", "\"content\": \"<｜place▁holder▁no▁799｜>\"", StringComparison.Ordinal);
        File.WriteAllText(folder.File("tokenizer.json"), first);
        Tokenizer tokenizer = Tokenizer.Load(folder.Path);
        Assert.Equal(128798, tokenizer.TryGetId("<｜place▁holder▁no▁798｜>"));
        Assert.Equal(128799, tokenizer.TryGetId("<｜place▁holder▁no▁799｜>"));
        return tokenizer;
    }

    [Fact]
    public void Every_golden_row_encodes_to_its_ids_and_decodes_to_its_text()
    {
        Tokenizer tokenizer = WithThinkAsPlaceholders();
        int rows = 0, tokens = 0;
        foreach (string line in File.ReadLines(Golden.Shared("tokenizer", "golden.jsonl")))
        {
            using JsonDocument row = JsonDocument.Parse(line);
            string text = row.RootElement.GetProperty("text").GetString()!;
            int[] expected = [.. row.RootElement.GetProperty("ids").EnumerateArray().Select(id => id.GetInt32())];
            int[] ids = tokenizer.Encode(text);
            if (!ids.AsSpan().SequenceEqual(expected))
                Assert.Fail($"row {rows} \"{TokenizerFixtures.Escape(text)}\":\nexpected {string.Join(' ', expected)}\nfound    {string.Join(' ', ids)}");
            Assert.Equal(text, tokenizer.Decode(ids));

            List<int> fromUtf8 = [];
            tokenizer.EncodeUtf8(Encoding.UTF8.GetBytes(text), fromUtf8);
            Assert.Equal(expected, fromUtf8);
            rows++;
            tokens += ids.Length;
        }

        Assert.True(rows > 1000);
        output.WriteLine($"{rows} rows, {tokens} tokens, all exact in both directions");
    }

    [Fact]
    public void The_file_as_it_is_gives_the_golden_ids_of_every_row_without_think_and_one_id_for_think()
    {
        Tokenizer tokenizer = TokenizerFixtures.DeepSeek;
        int rows = 0, withThink = 0;
        foreach (string line in File.ReadLines(Golden.Shared("tokenizer", "golden.jsonl")))
        {
            using JsonDocument row = JsonDocument.Parse(line);
            string text = row.RootElement.GetProperty("text").GetString()!;
            int[] ids = tokenizer.Encode(text);
            rows++;
            if (text.Contains("think>", StringComparison.Ordinal))
            {
                withThink++;
                Assert.Equal([128798, 201, 86512, 201, 128799, 271, 19995], ids);
            }
            else
            {
                Assert.Equal(row.RootElement.GetProperty("ids").EnumerateArray().Select(id => id.GetInt32()), ids);
            }
        }

        Assert.Equal(1, withThink);
        output.WriteLine($"{rows - withThink} rows exact, {withThink} row holds <think>");
    }

    [Fact]
    public void Published_control_tokens_have_their_ids()
    {
        Tokenizer tokenizer = TokenizerFixtures.DeepSeek;
        Assert.Equal(128815, tokenizer.VocabularySize);
        Assert.Equal((0, 1, 1), (tokenizer.BosId, tokenizer.EosId, tokenizer.PadId));
        Assert.Equal((128801, 128800, 128802), (tokenizer.FimBegin, tokenizer.FimHole, tokenizer.FimEnd));
        Assert.Equal(128803, tokenizer.TryGetId("<｜User｜>"));
        Assert.True(tokenizer.IsSpecial(0));
        Assert.False(tokenizer.IsSpecial(128803)); // DeepSeek's file says so
        Assert.Same(PreTokenizer.DeepSeekV3, tokenizer.PreTokenizer);
        Assert.False(tokenizer.AddsBos);
        Assert.StartsWith("{% if", tokenizer.ChatTemplate);

        Assert.Equal([128803, 19923, 3, 128804, 23166, 1031, 3, 128805], tokenizer.Encode("<｜User｜>Hello!<｜Assistant｜>Hi there!<|EOT|>"));
        Assert.Equal([30, 94, 6756, 94, 32], tokenizer.Encode("<|User|>"));
    }

    [Fact]
    public void A_saved_copy_encodes_every_golden_row_alike()
    {
        Tokenizer tokenizer = TokenizerFixtures.DeepSeek;
        using var folder = new TemporaryFolder();
        tokenizer.Save(folder.Path);
        Tokenizer copy = Tokenizer.Load(folder.Path);
        Assert.Equal(tokenizer.AddedTokens, copy.AddedTokens);
        Assert.Equal(tokenizer.ChatTemplate, copy.ChatTemplate);
        Assert.Equal((tokenizer.BosId, tokenizer.EosId, tokenizer.PadId, tokenizer.AddsBos), (copy.BosId, copy.EosId, copy.PadId, copy.AddsBos));
        int rows = 0;
        foreach (string line in File.ReadLines(Golden.Shared("tokenizer", "golden.jsonl")))
        {
            using JsonDocument row = JsonDocument.Parse(line);
            string text = row.RootElement.GetProperty("text").GetString()!;
            Assert.Equal(tokenizer.Encode(text), copy.Encode(text));
            rows++;
        }

        output.WriteLine($"{rows} rows equal after saving and loading");
    }
}
