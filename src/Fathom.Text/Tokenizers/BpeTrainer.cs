// Trains a byte-level byte-pair vocabulary: count the words of a corpus (in parallel), learn merges from the counts
// (BpeMergeLearner), number the tokens: special tokens first (bos 0, eos 1, pad 2, as in DeepSeek's vocabulary), then the
// 256 bytes in the order of their characters, then one token a merge.
//
// The result depends on the corpus alone, not on threads or on the order of documents: counts are sums, and every choice
// between equal counts is settled by TieRule.
using System.Runtime.ExceptionServices;
using System.Runtime.InteropServices;
using System.Text;

namespace Fathom.Text;

/// <summary>Which of two pairs of equal count is merged first.</summary>
public enum BpeTieRule
{
    /// <summary>The pair whose bytes are greatest (left token first, then right): GPT-2-style reference trainers.</summary>
    GreatestBytes,

    /// <summary>The pair of smallest ids (left first, then right): Hugging Face tokenizers.</summary>
    SmallestIds,
}

/// <summary>What to train.</summary>
public sealed record BpeTrainerOptions
{
    /// <summary>Size of the vocabulary, special tokens and bytes included. Fewer tokens come out if the corpus has no more pairs to merge.</summary>
    public required int VocabularySize { get; init; }

    /// <summary>Special tokens, numbered from 0. They are cut out of the corpus before words are counted.</summary>
    public IReadOnlyList<string> SpecialTokens { get; init; } = SpecialTokenNames.All;

    /// <summary>Begin-of-sequence token; used if it is among <see cref="SpecialTokens"/>.</summary>
    public string BosToken { get; init; } = SpecialTokenNames.BeginOfSentence;

    /// <summary>End-of-sequence token; used if it is among <see cref="SpecialTokens"/>.</summary>
    public string EosToken { get; init; } = SpecialTokenNames.EndOfSentence;

    /// <summary>Padding token; used if it is among <see cref="SpecialTokens"/>.</summary>
    public string PadToken { get; init; } = SpecialTokenNames.Pad;

    /// <summary>How text is cut into words.</summary>
    public PreTokenizer PreTokenizer { get; init; } = PreTokenizer.DeepSeekV3;

    /// <summary>Longest token, in bytes.</summary>
    public int MaxTokenLength { get; init; } = 128;

    /// <summary>Pairs seen less often than this are not merged.</summary>
    public long MinPairCount { get; init; } = 2;

    /// <summary>Order among pairs of equal count.</summary>
    public BpeTieRule TieRule { get; init; } = BpeTieRule.GreatestBytes;

    /// <summary>Threads that count words.</summary>
    public int Threads { get; init; } = Environment.ProcessorCount;
}

/// <summary>How far training is.</summary>
/// <param name="DocumentsRead">Documents whose words are counted.</param>
/// <param name="BytesRead">UTF-8 bytes of those documents.</param>
/// <param name="MergesLearned">Merges so far; 0 while documents are read.</param>
/// <param name="MergesWanted">Merges that fill the vocabulary.</param>
public readonly record struct BpeTrainingProgress(long DocumentsRead, long BytesRead, int MergesLearned, int MergesWanted);

/// <summary>Trains byte-level byte-pair tokenizers.</summary>
public static class BpeTrainer
{
    /// <summary>Trains a tokenizer on a corpus.</summary>
    /// <param name="documents">Enumerated once, by one thread at a time; may be larger than memory.</param>
    /// <param name="options">What to train.</param>
    /// <param name="progress">Is told every hundred documents and merges; may be called from several threads.</param>
    /// <param name="cancellation">Stops training between documents and between merges.</param>
    /// <exception cref="ArgumentException">The options do not fit together.</exception>
    /// <exception cref="OperationCanceledException">Training was cancelled.</exception>
    public static Tokenizer Train(
        IEnumerable<string> documents, BpeTrainerOptions options, IProgress<BpeTrainingProgress>? progress = null, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(documents);
        ArgumentNullException.ThrowIfNull(options);
        Check(options);
        int specials = options.SpecialTokens.Count;
        int merges = options.VocabularySize - specials - 256;
        var counter = new WordCounter(options, merges, progress);
        Dictionary<string, long> words = counter.Count(documents, cancellation);
        BpeTrainingProgress read = counter.Progress;
        var learner = new BpeMergeLearner(words, specials, options);
        learner.Learn(merges, learned => progress?.Report(read with { MergesLearned = learned }), cancellation);
        return new Tokenizer(Define(learner, options));
    }

    private static void Check(BpeTrainerOptions options)
    {
        IReadOnlyList<string> special = options.SpecialTokens;
        int least = 256 + special.Count;
        if (options.VocabularySize < least)
            throw new ArgumentException($"training a tokenizer: a vocabulary of {options.VocabularySize} cannot hold 256 bytes and {special.Count} special tokens; ask for {least} or more", nameof(options));
        if (special.Any(string.IsNullOrEmpty) || special.Distinct().Count() != special.Count)
            throw new ArgumentException("training a tokenizer: special tokens must be distinct and not empty", nameof(options));
        if (special.FirstOrDefault(ReadsAsOtherBytes) is string ambiguous)
            throw new ArgumentException($"training a tokenizer: the vocabulary would read the special token \"{ambiguous}\" as other bytes; choose one with a character that is not in the byte-level alphabet", nameof(options));
        ArgumentOutOfRangeException.ThrowIfLessThan(options.MaxTokenLength, 2, nameof(options.MaxTokenLength));
        ArgumentOutOfRangeException.ThrowIfLessThan(options.MinPairCount, 1, nameof(options.MinPairCount));
        ArgumentOutOfRangeException.ThrowIfLessThan(options.Threads, 1, nameof(options.Threads));
    }

    /// <summary>Whether the text is also how a byte-level vocabulary writes a single byte, or bytes that are not the text's own.</summary>
    private static bool ReadsAsOtherBytes(string token)
    {
        byte[] bytes = ByteLevelAlphabet.ToBytes(token);
        return bytes.Length == 1 || !bytes.AsSpan().SequenceEqual(Encoding.UTF8.GetBytes(token));
    }

    private static TokenizerDefinition Define(BpeMergeLearner learner, BpeTrainerOptions options)
    {
        var vocabulary = new Dictionary<string, int>(StringComparer.Ordinal);
        foreach (string token in options.SpecialTokens) vocabulary.Add(token, vocabulary.Count);
        for (int id = options.SpecialTokens.Count; id < learner.TokenCount; id++) vocabulary.Add(ByteLevelAlphabet.ToText(learner.Bytes(id)), id);
        AddedToken[] added = [.. options.SpecialTokens.Select((token, id) => new AddedToken(id, token, Special: true))];
        int? bos = IdOf(options.BosToken);
        return new TokenizerDefinition
        {
            Vocabulary = vocabulary,
            Merges = learner.Merges,
            AddedTokens = added,
            PreTokenizer = options.PreTokenizer,
            BosId = bos,
            EosId = IdOf(options.EosToken),
            PadId = IdOf(options.PadToken),
            AddsBos = bos is not null,
        };

        int? IdOf(string name) => added.FirstOrDefault(token => token.Content == name)?.Id;
    }

    /// <summary>Counts the words of a corpus, each thread in a table of its own.</summary>
    private sealed class WordCounter(BpeTrainerOptions options, int merges, IProgress<BpeTrainingProgress>? progress)
    {
        private readonly AddedTokenMatcher? _special = options.SpecialTokens.Count == 0
            ? null
            : new AddedTokenMatcher([.. options.SpecialTokens.Select((token, id) => new AddedToken(id, token, Special: true))]);

        private long _documents;
        private long _bytes;

        public BpeTrainingProgress Progress => new(Interlocked.Read(ref _documents), Interlocked.Read(ref _bytes), 0, merges);

        public Dictionary<string, long> Count(IEnumerable<string> documents, CancellationToken cancellation)
        {
            Dictionary<string, long> total = new(StringComparer.Ordinal);
            using IEnumerator<string> source = documents.GetEnumerator();
            Lock turn = new();
            try
            {
                Parallel.For(0, options.Threads, new ParallelOptions { MaxDegreeOfParallelism = options.Threads }, _ => Work());
            }
            catch (AggregateException failure)
            {
                // The caller's own exception (a broken corpus, a cancellation), as if there were one thread.
                ExceptionDispatchInfo.Throw(failure.Flatten().InnerExceptions[0]);
            }

            return total;

            void Work()
            {
                Dictionary<string, long> mine = new(StringComparer.Ordinal);
                List<int> ends = [];
                while (Next() is string document) CountDocument(document, ends, mine);
                lock (total)
                {
                    foreach ((string word, long count) in mine) CollectionsMarshal.GetValueRefOrAddDefault(total, word, out bool _) += count;
                }
            }

            string? Next()
            {
                cancellation.ThrowIfCancellationRequested();
                lock (turn) return source.MoveNext() ? source.Current : null;
            }
        }

        private void CountDocument(string document, List<int> ends, Dictionary<string, long> counts)
        {
            ReadOnlySpan<char> text = document;
            int position = 0;
            while (position < text.Length)
            {
                int start = text.Length, end = text.Length;
                _special?.Find(text, position, out start, out end);
                CountWords(text.Slice(position, start - position), ends, counts);
                position = end;
            }

            Interlocked.Add(ref _bytes, Encoding.UTF8.GetByteCount(document));
            if (Interlocked.Increment(ref _documents) % 100 == 0) progress?.Report(Progress);
        }

        private void CountWords(ReadOnlySpan<char> text, List<int> ends, Dictionary<string, long> counts)
        {
            ends.Clear();
            options.PreTokenizer.Split(text, ends);
            var lookup = counts.GetAlternateLookup<ReadOnlySpan<char>>();
            int start = 0;
            foreach (int end in ends)
            {
                CollectionsMarshal.GetValueRefOrAddDefault(lookup, text.Slice(start, end - start), out bool _)++;
                start = end;
            }
        }
    }
}
