// What encoding and decoding promise whatever the text: nothing is lost, special text is special only when it may be,
// merges come out the same by the slow definition, and threads do not disturb each other.
using System.Text;
using Fathom.Testing;
using Xunit;

namespace Fathom.Text.Tests.Tokenizers;

public sealed class TokenizerTests(ITestOutputHelper output)
{
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Random_text_survives_encoding_and_decoding(bool deepSeek)
    {
        Tokenizer tokenizer = deepSeek ? TokenizerFixtures.DeepSeek : TokenizerFixtures.Small;
        var random = new Random(7);
        List<int> ids = [], fromUtf8 = [];
        long characters = 0, tokens = 0;
        for (int i = 0; i < 10_000; i++)
        {
            string text = TokenizerFixtures.RandomText(random, random.Next(60));
            ids.Clear();
            fromUtf8.Clear();
            tokenizer.Encode(text, ids, allowSpecial: i % 2 == 0);
            tokenizer.EncodeUtf8(Encoding.UTF8.GetBytes(text), fromUtf8, allowSpecial: i % 2 == 0);
            string wanted = TokenizerFixtures.WellFormed(text);
            string found = tokenizer.Decode(ids.ToArray());
            if (found != wanted) Assert.Fail($"text {i}: \"{TokenizerFixtures.Escape(text)}\" came back as \"{TokenizerFixtures.Escape(found)}\"");
            if (!ids.SequenceEqual(fromUtf8)) Assert.Fail($"text {i}: \"{TokenizerFixtures.Escape(text)}\" differs as UTF-8");
            characters += text.Length;
            tokens += ids.Count;
        }

        output.WriteLine($"10000 random texts, {characters} UTF-16 units, {tokens} tokens, all came back");
    }

    [Fact]
    public void Words_of_every_length_merge_as_the_definition_says()
    {
        // Long words go through the heap, short ones through the scan; the definition is the same for both.
        Tokenizer tokenizer = TokenizerFixtures.Small;
        var ranks = MergesOf(tokenizer);
        var random = new Random(3);
        int longest = 0;
        for (int i = 0; i < 600; i++)
        {
            string word = string.Concat(Enumerable.Range(0, random.Next(1, 150)).Select(_ => "thesmalcorpubtr"[random.Next(15)]));
            string[] expected = MergeSlowly(word, ranks);
            string[] found = [.. tokenizer.Encode(word).Select(id => Encoding.UTF8.GetString(tokenizer.TokenBytes(id)))];
            if (!expected.SequenceEqual(found)) Assert.Fail($"\"{word}\": expected {string.Join('|', expected)}, found {string.Join('|', found)}");
            longest = Math.Max(longest, word.Length);
        }

        output.WriteLine($"600 words of up to {longest} letters equal to the definition");
    }

    [Fact]
    public void A_word_of_a_million_letters_takes_no_quadratic_time()
    {
        string word = string.Concat(Enumerable.Repeat("thesmallerthebetter", 50_000));
        var clock = System.Diagnostics.Stopwatch.StartNew();
        int[] ids = TokenizerFixtures.Small.Encode(word);
        output.WriteLine($"{word.Length} letters, {ids.Length} tokens, {clock.ElapsedMilliseconds} ms");
        Assert.Equal(word, TokenizerFixtures.Small.Decode(ids));
        Assert.True(clock.Elapsed.TotalSeconds < 20, "a quadratic merge would take hours");
    }

    [Fact]
    public void Text_of_special_tokens_is_plain_text_where_they_are_not_allowed()
    {
        Tokenizer tokenizer = TokenizerFixtures.Small;
        const string Text = "a<｜User｜>b<｜begin▁of▁sentence｜>";
        int[] special = tokenizer.Encode(Text);
        Assert.Equal([tokenizer.TryGetId("a")!.Value, 3, tokenizer.TryGetId("b")!.Value, 0], special);
        List<int> plain = [];
        tokenizer.Encode(Text, plain, allowSpecial: false);
        Assert.DoesNotContain(plain, id => id < 8);
        Assert.Equal(Text, tokenizer.Decode(plain.ToArray()));
        Assert.Equal("ab", tokenizer.Decode(special, skipSpecial: true));
        Assert.Equal((0, 1, 2), (tokenizer.BosId, tokenizer.EosId, tokenizer.PadId));
        Assert.Equal((6, 5, 7), (tokenizer.FimBegin, tokenizer.FimHole, tokenizer.FimEnd));
        Assert.All(Enumerable.Range(0, 8), id => Assert.True(tokenizer.IsSpecial(id)));
        Assert.False(tokenizer.IsSpecial(8));
    }

    [Theory]
    [InlineData(-1)]
    [InlineData(320)]
    [InlineData(int.MaxValue)]
    [InlineData(int.MinValue)]
    public void Ids_outside_the_vocabulary_are_named(int id)
    {
        Tokenizer tokenizer = TokenizerFixtures.Small;
        var decoder = new StreamingDecoder(tokenizer);
        foreach (Action decode in new Action[] { () => tokenizer.Decode([id]), () => tokenizer.TokenBytes(id), () => decoder.Push(id) })
        {
            ArgumentOutOfRangeException refused = Assert.Throws<ArgumentOutOfRangeException>(decode);
            Assert.Contains($"token id {id} is outside the vocabulary of 320 tokens", refused.Message, StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Streaming_gives_the_same_text_in_whole_characters(bool deepSeek)
    {
        Tokenizer tokenizer = deepSeek ? TokenizerFixtures.DeepSeek : TokenizerFixtures.Small;
        var random = new Random(11);
        var decoder = new StreamingDecoder(tokenizer);
        int pushes = 0, silent = 0;
        for (int i = 0; i < 3000; i++)
        {
            // Half of the sequences are text, half are ids at random: mostly broken UTF-8.
            int[] ids = i % 2 == 0
                ? tokenizer.Encode(TokenizerFixtures.RandomText(random, random.Next(30)))
                : [.. Enumerable.Range(0, random.Next(30)).Select(_ => random.Next(300))];
            var text = new StringBuilder();
            foreach (int id in ids)
            {
                string part = decoder.Push(id);
                Assert.Equal(part, TokenizerFixtures.WellFormed(part)); // never half a surrogate pair
                if (part.Length == 0) silent++;
                pushes++;
                text.Append(part);
            }

            text.Append(decoder.Flush());
            Assert.Equal(tokenizer.Decode(ids), text.ToString());
        }

        Assert.True(silent > 100);
        output.WriteLine($"{pushes} tokens pushed, {silent} ended inside a character, all texts equal");
    }

    [Fact]
    public void Streaming_holds_back_an_unfinished_character_and_flushes_it_as_one_replacement()
    {
        Tokenizer tokenizer = TokenizerFixtures.Small;
        int[] bytes = [.. new byte[] { 0xF0, 0x9F, 0x98, 0x80 }.Select(value => Enumerable.Range(8, 256).First(id => tokenizer.TokenBytes(id)[0] == value))];
        var decoder = new StreamingDecoder(tokenizer, skipSpecial: true);
        Assert.Equal(["", "", "", "😀"], bytes.Select(decoder.Push));
        Assert.Equal("", decoder.Flush());
        Assert.Equal(["", "", ""], bytes[..3].Select(decoder.Push));
        Assert.Equal("", decoder.Push(0));
        Assert.Equal("\uFFFD", decoder.Flush());
        Assert.Equal("", decoder.Flush());
    }

    [Fact]
    public void Many_threads_encode_as_one_does()
    {
        Tokenizer tokenizer = TokenizerFixtures.Small;
        var random = new Random(5);
        string[] texts = [.. Enumerable.Range(0, 400).Select(_ => TokenizerFixtures.RandomText(random, 200))];
        int[][] expected = [.. texts.Select(tokenizer.Encode)];
        int[][] found = new int[texts.Length][];
        Parallel.For(0, texts.Length, new ParallelOptions { MaxDegreeOfParallelism = 8, CancellationToken = TestContext.Current.CancellationToken }, i => found[i] = tokenizer.Encode(texts[i]));
        for (int i = 0; i < texts.Length; i++) Assert.Equal(expected[i], found[i]);
    }

    [Fact]
    public void Cached_words_give_what_they_gave_before()
    {
        // More distinct words than the cache has places, twice, against a tokenizer that sees each word for the first time.
        Tokenizer tokenizer = TokenizerFixtures.Small;
        var random = new Random(13);
        string[] words = [.. Enumerable.Range(0, 150_000).Select(_ => new string([.. Enumerable.Range(0, random.Next(1, 18)).Select(_ => (char)('a' + random.Next(26)))]))];
        int[] all = tokenizer.Encode(string.Join(' ', words));
        Assert.Equal(all, tokenizer.Encode(string.Join(' ', words)));
        Assert.Equal(string.Join(' ', words), tokenizer.Decode(all));
        var merges = MergesOf(tokenizer);
        for (int i = 0; i < words.Length; i += 500)
            Assert.Equal(MergeSlowly(words[i], merges), tokenizer.Encode(words[i]).Select(id => Encoding.UTF8.GetString(tokenizer.TokenBytes(id))));
    }

    private static Dictionary<(string, string), int> MergesOf(Tokenizer tokenizer)
    {
        using var folder = new TemporaryFolder();
        tokenizer.Save(folder.Path);
        using var file = System.Text.Json.JsonDocument.Parse(File.ReadAllBytes(folder.File("tokenizer.json")));
        return file.RootElement.GetProperty("model").GetProperty("merges").EnumerateArray()
            .Select((merge, rank) => (Parts: merge.GetString()!.Split(' '), rank)).ToDictionary(merge => (merge.Parts[0], merge.Parts[1]), merge => merge.rank);
    }

    private static string[] MergeSlowly(string word, Dictionary<(string, string), int> ranks)
    {
        List<string> parts = [.. word.Select(c => c.ToString())];
        while (true)
        {
            int best = -1, bestRank = int.MaxValue;
            for (int i = 0; i + 1 < parts.Count; i++)
            {
                if (ranks.TryGetValue((parts[i], parts[i + 1]), out int rank) && rank < bestRank) (best, bestRank) = (i, rank);
            }

            if (best < 0) return [.. parts];
            parts[best] += parts[best + 1];
            parts.RemoveAt(best + 1);
        }
    }
}
