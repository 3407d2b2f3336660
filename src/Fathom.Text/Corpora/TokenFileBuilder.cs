// Tokenises a corpus once, into a file that training maps into memory. Documents are encoded on several threads and
// written in their order, so the file's bytes do not depend on the number of threads. The file is written under a
// temporary name beside its target, flushed to the disk and renamed: a target that exists is always whole.
using System.Buffers;
using System.Buffers.Binary;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;

namespace Fathom.Text;

/// <summary>How documents become tokens.</summary>
public sealed record TokenFileOptions
{
    /// <summary>The id that follows every document.</summary>
    public required int EosId { get; init; }

    /// <summary>The id in front of every document, or null for none.</summary>
    public int? BosId { get; init; }

    /// <summary>Rearranges a share of the documents; null (as for held-out text) for none.</summary>
    public FillInTheMiddle? FillInTheMiddle { get; init; }

    /// <summary>Any text that changes with the tokenizer, e.g. a hash of its file; part of <see cref="Key"/>.</summary>
    public required string TokenizerKey { get; init; }

    /// <summary>Any text that changes with the documents, e.g. <see cref="Corpus.Fingerprint"/> and the part of the split; part of <see cref="Key"/>.</summary>
    public required string CorpusKey { get; init; }

    /// <summary>
    /// SHA-256, in hex, of everything that the tokens depend on. A file whose key is this one can be used in place of
    /// building it again.
    /// </summary>
    public string Key => TokenFileHeader.HashText(string.Create(CultureInfo.InvariantCulture,
        $"version {TokenFileHeader.Version}\neos {EosId}\nbos {BosId}\nfim {FillInTheMiddle?.Rate:R} {FillInTheMiddle?.Seed} {FillInTheMiddle?.BeginId} {FillInTheMiddle?.HoleId} {FillInTheMiddle?.EndId}\ntokenizer {TokenizerKey}\ncorpus {CorpusKey}"));
}

/// <summary>Builds token files.</summary>
public static class TokenFileBuilder
{
    private const int BatchCharacters = 64 * 1024;

    /// <summary>Encodes all documents and writes the file, replacing one that exists; then opens it.</summary>
    /// <param name="path">The file to write; its folder must exist.</param>
    /// <param name="documents">Read once, by the calling thread.</param>
    /// <param name="encoder">Called by several threads at once.</param>
    /// <param name="options">What is put around the documents, and the file's key.</param>
    /// <param name="workers">Threads that encode; 0 for one a processor.</param>
    /// <param name="progress">Told the documents written so far, now and then.</param>
    /// <param name="cancellation">Stops the work; nothing is left behind.</param>
    /// <exception cref="TextFormatException">There are no documents, an id is outside the vocabulary, or the file cannot be written.</exception>
    public static TokenFile Build(
        string path, IEnumerable<Document> documents, ITextEncoder encoder, TokenFileOptions options,
        int workers = 0, IProgress<long>? progress = null, CancellationToken cancellation = default)
    {
        Check(path, encoder, options);
        if (workers == 0) workers = Environment.ProcessorCount;
        string temporary = $"{path}.{Guid.NewGuid():N}.tmp";
        try
        {
            using (Writer writer = new(temporary, path, encoder.VocabularySize))
            {
                IEnumerable<EncodedBatch> batches = OrderedParallel.Select(
                    Batches(documents), batch => Encode(batch, encoder, options), workers, cancellation);
                foreach (EncodedBatch batch in batches)
                {
                    writer.Append(batch);
                    progress?.Report(writer.Documents);
                }

                writer.Finish(options);
            }

            File.Move(temporary, path, overwrite: true);
        }
        catch (Exception failure) when (failure is UnauthorizedAccessException or IOException)
        {
            throw new TextFormatException($"writing the token file {path}: {failure.Message}", failure);
        }
        finally
        {
            File.Delete(temporary);
        }

        return TokenFile.Open(path);
    }

    private static void Check(string path, ITextEncoder encoder, TokenFileOptions options)
    {
        if (Path.GetDirectoryName(Path.GetFullPath(path)) is { } folder && !Directory.Exists(folder))
            throw new TextFormatException($"writing the token file {path}: the folder {folder} does not exist; create it first");
        FillInTheMiddle? fim = options.FillInTheMiddle;
        ReadOnlySpan<(string Name, int? Id)> ids =
            [("end", options.EosId), ("begin", options.BosId), ("fim begin", fim?.BeginId), ("fim hole", fim?.HoleId), ("fim end", fim?.EndId)];
        foreach ((string name, int? id) in ids)
        {
            if (id is { } value && (uint)value >= (uint)encoder.VocabularySize)
                throw new TextFormatException($"writing the token file {path}: the {name} token's id {value} is outside the vocabulary of {encoder.VocabularySize}");
        }

        if (fim is not null && fim.Rate is not (>= 0 and <= 1))
            throw new TextFormatException($"writing the token file {path}: the fill-in-the-middle rate is {fim.Rate}, expected a number in [0, 1]");
    }

    private static IEnumerable<(long FirstIndex, List<Document> Documents)> Batches(IEnumerable<Document> documents)
    {
        long index = 0;
        List<Document> batch = [];
        int characters = 0;
        foreach (Document document in documents)
        {
            batch.Add(document);
            index++;
            characters += document.Text.Length;
            if (characters < BatchCharacters) continue;
            yield return (index - batch.Count, batch);
            batch = new List<Document>(batch.Count);
            characters = 0;
        }

        if (batch.Count > 0) yield return (index - batch.Count, batch);
    }

    private static EncodedBatch Encode((long FirstIndex, List<Document> Documents) batch, ITextEncoder encoder, TokenFileOptions options)
    {
        List<int> ids = new(BatchCharacters / 3);
        List<(int End, int Bytes)> ends = new(batch.Documents.Count);
        for (int i = 0; i < batch.Documents.Count; i++)
        {
            string text = batch.Documents[i].Text;
            if (options.BosId is { } bos) ids.Add(bos);
            if (options.FillInTheMiddle is { } fim) fim.Encode(batch.FirstIndex + i, text, encoder, ids);
            else encoder.Encode(text, ids);
            ids.Add(options.EosId);
            ends.Add((ids.Count, Encoding.UTF8.GetByteCount(text)));
        }

        return new EncodedBatch(ids, ends);
    }

    /// <summary>Ids of some successive documents; for each, where it ends in them and its UTF-8 bytes.</summary>
    private sealed record EncodedBatch(List<int> Ids, List<(int End, int Bytes)> Documents);

    private sealed class Writer : IDisposable
    {
        private readonly FileStream _stream;
        private readonly string _target;
        private readonly int _vocabularySize;
        private readonly int _width;
        private readonly IncrementalHash _hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        private readonly List<long> _starts = [0];
        private readonly List<long> _bytes = [0];
        private byte[] _block = new byte[1 << 16];
        private long _tokens;

        public Writer(string temporary, string target, int vocabularySize)
        {
            (_target, _vocabularySize, _width) = (target, vocabularySize, TokenFileHeader.WidthFor(vocabularySize));
            _stream = new FileStream(temporary, FileMode.CreateNew, FileAccess.Write, FileShare.None, bufferSize: 1);
            _stream.Write(new byte[TokenFileHeader.Size]);
        }

        public long Documents => _starts.Count - 1;

        public void Append(EncodedBatch batch)
        {
            ReadOnlySpan<int> ids = CollectionsMarshal.AsSpan(batch.Ids);
            int length = ids.Length * _width;
            if (_block.Length < length) _block = new byte[Math.Max(length, 2 * _block.Length)];
            for (int i = 0; i < ids.Length; i++)
            {
                int id = ids[i];
                if ((uint)id >= (uint)_vocabularySize)
                    throw new TextFormatException($"writing the token file {_target}: the encoder gave id {id}, outside its vocabulary of {_vocabularySize}");
                if (_width == sizeof(ushort)) BinaryPrimitives.WriteUInt16LittleEndian(_block.AsSpan(i * sizeof(ushort)), (ushort)id);
                else BinaryPrimitives.WriteInt32LittleEndian(_block.AsSpan(i * sizeof(uint)), id);
            }

            Put(_block.AsSpan(0, length));
            foreach ((int end, int bytes) in batch.Documents)
            {
                _starts.Add(_tokens + end);
                _bytes.Add(_bytes[^1] + bytes);
            }

            _tokens += ids.Length;
        }

        public void Finish(TokenFileOptions options)
        {
            if (Documents == 0)
                throw new TextFormatException($"writing the token file {_target}: there are no documents to write");
            TokenFileHeader header = new()
            {
                TokenWidth = _width,
                DocumentCount = Documents,
                TokenCount = _tokens,
                Utf8Bytes = _bytes[^1],
                VocabularySize = _vocabularySize,
                EosId = options.EosId,
                BosId = options.BosId ?? -1,
                Key = options.Key,
                ContentHash = "",
            };
            Put(new byte[header.Padding]);
            PutTable(_starts);
            PutTable(_bytes);
            header = header with { ContentHash = Convert.ToHexStringLower(_hash.GetHashAndReset()) };
            byte[] bytes = new byte[TokenFileHeader.Size];
            header.Write(bytes);

            // The rest must be on the disk before a valid header can be.
            _stream.Flush(flushToDisk: true);
            _stream.Position = 0;
            _stream.Write(bytes);
            _stream.Flush(flushToDisk: true);
        }

        public void Dispose()
        {
            _stream.Dispose();
            _hash.Dispose();
        }

        private void PutTable(List<long> table)
        {
            byte[] block = ArrayPool<byte>.Shared.Rent(1 << 16);
            for (int first = 0; first < table.Count;)
            {
                int count = Math.Min(table.Count - first, block.Length / sizeof(long));
                for (int i = 0; i < count; i++)
                    BinaryPrimitives.WriteInt64LittleEndian(block.AsSpan(i * sizeof(long)), table[first + i]);
                Put(block.AsSpan(0, count * sizeof(long)));
                first += count;
            }

            ArrayPool<byte>.Shared.Return(block);
        }

        private void Put(ReadOnlySpan<byte> bytes)
        {
            _stream.Write(bytes);
            _hash.AppendData(bytes);
        }
    }
}
