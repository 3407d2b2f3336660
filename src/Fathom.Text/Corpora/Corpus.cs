// Reads documents from files and folders, lazily: nothing larger than one document is held. The order is the order of
// the files (ordinal by relative path, the same on every system) and of the text in them, so a document's index is a
// stable name for it; the held-out split and fill-in-the-middle are keyed by that index.
using System.Security.Cryptography;
using System.Text;
using System.Text.Unicode;

namespace Fathom.Text;

/// <summary>
/// Text corpora on disk: a text file, a JSON-lines file, gzip of either (found by its first bytes), or a folder of them.
/// In a folder, hidden files and folders, <c>bin</c>, <c>obj</c> and files that are not UTF-8 text are left out, and
/// links to folders are not followed.
/// </summary>
public static class Corpus
{
    private const int SniffBytes = 8192;
    private static readonly string[] JsonLinesExtensions = [".jsonl", ".ndjson", ".json-lines", ".jl"];

    /// <summary>
    /// The documents of a file or folder. Enumerating reads the files; enumerating again reads them again and gives the
    /// same documents.
    /// </summary>
    /// <param name="path">A file or a folder.</param>
    /// <param name="options">Choices, or null for the defaults.</param>
    /// <param name="report">Filled while enumerating; null when not wanted.</param>
    /// <exception cref="TextFormatException">The path is absent, a file cannot be read or its gzip is damaged, or no document is left.</exception>
    public static IEnumerable<Document> Read(string path, CorpusOptions? options = null, CorpusReport? report = null)
    {
        options ??= new CorpusOptions();
        if (options.MaximumPieceBytes < 16)
            throw new TextFormatException($"reading {path}: pieces of at most {options.MaximumPieceBytes} bytes were asked for; at least 16 are needed");
        if (options.Separator is { Length: 0 })
            throw new TextFormatException($"reading {path}: the document separator is empty; give a text or leave it out");
        RequireExisting(path);
        return ReadAll(path, options, report ?? new CorpusReport());
    }

    /// <summary>
    /// A key that changes when a file of the corpus or an option does: SHA-256, in hex, over the options and each
    /// file's relative path, length and time of last write. It does not read the files.
    /// </summary>
    /// <inheritdoc cref="Read" path="/param|/exception"/>
    public static string Fingerprint(string path, CorpusOptions? options = null)
    {
        RequireExisting(path);
        StringBuilder text = new(1024);
        text.Append(options ?? new CorpusOptions()).Append('\n');
        foreach ((string file, string name) in Files(path))
        {
            FileInfo info = new(file);
            text.Append(name).Append('\0').Append(info.Length).Append('\0').Append(info.LastWriteTimeUtc.Ticks).Append('\n');
        }

        return Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(text.ToString())));
    }

    private static void RequireExisting(string path)
    {
        if (!Path.Exists(path))
            throw new TextFormatException($"reading the corpus {path}: there is no such file or folder; check the path");
    }

    private static IEnumerable<Document> ReadAll(string path, CorpusOptions options, CorpusReport report)
    {
        report.Reset();
        foreach ((string file, string name) in Files(path))
        {
            report.Files++;
            foreach (Document document in ReadFile(file, name, options, report)) yield return document;
        }

        if (report.Documents > 0) yield break;
        string skipped = report.DescribeSkipped();
        string found = report.Files == 0 ? "the folder holds no readable files"
            : skipped.Length == 0 ? "the files hold no documents" : $"all was skipped: {skipped}";
        throw new TextFormatException($"reading the corpus {path}: no document is left; {found}");
    }

    private static IEnumerable<(string File, string Name)> Files(string path)
    {
        if (!Directory.Exists(path)) return [(path, Path.GetFileName(path))];
        List<(string File, string Name)> files = [];
        Collect(new DirectoryInfo(path), "", files);
        files.Sort(static (a, b) => string.CompareOrdinal(a.Name, b.Name));
        return files;
    }

    private static void Collect(DirectoryInfo folder, string prefix, List<(string File, string Name)> files)
    {
        FileSystemInfo[] entries;
        try
        {
            entries = folder.GetFileSystemInfos();
        }
        catch (Exception failure) when (failure is UnauthorizedAccessException or IOException)
        {
            throw new TextFormatException($"listing the corpus folder {folder.FullName}: {failure.Message}", failure);
        }

        foreach (FileSystemInfo entry in entries)
        {
            if (entry.Name.StartsWith('.')) continue;
            if (entry is not DirectoryInfo child) files.Add((entry.FullName, prefix + entry.Name));
            else if (child.Name is not ("bin" or "obj") && child.LinkTarget is null) Collect(child, prefix + child.Name + "/", files);
        }
    }

    private static IEnumerable<Document> ReadFile(string file, string name, CorpusOptions options, CorpusReport report)
    {
        using Stream stream = Open(file);
        RecordReader reader = new(stream, file);
        ReadOnlyMemory<byte> head = reader.Peek(SniffBytes);
        if (head.Length > SniffBytes) head = head.Slice(0, SniffBytes);
        if (head.Span.Contains((byte)0))
        {
            report.SkippedNotUtf8++;
            yield break;
        }

        if (head.Span.StartsWith("\uFEFF"u8)) reader.Skip(3);
        IEnumerable<Document> documents = IsJsonLines(name, options.Format)
            ? ReadJsonLines(reader, file, name, options, report)
            : ReadText(reader, name, options, report);
        foreach (Document document in documents) yield return document;
    }

    private static FileStream OpenFile(string file)
    {
        try
        {
            return new FileStream(file, FileMode.Open, FileAccess.Read, FileShare.Read, bufferSize: 1, FileOptions.SequentialScan);
        }
        catch (Exception failure) when (failure is UnauthorizedAccessException or IOException)
        {
            throw new TextFormatException($"reading the corpus file {file}: {failure.Message}", failure);
        }
    }

    private static Stream Open(string file)
    {
        FileStream stream = OpenFile(file);
        if (!stream.CanSeek) return stream;
        bool gzip = stream.ReadByte() == 0x1F && stream.ReadByte() == 0x8B;
        stream.Position = 0;
        return gzip ? new GzipReader(stream) : stream;
    }

    private static bool IsJsonLines(string name, CorpusFormat format)
    {
        if (format != CorpusFormat.Auto) return format == CorpusFormat.JsonLines;
        if (name.EndsWith(".gz", StringComparison.OrdinalIgnoreCase)) name = name[..^3];
        return JsonLinesExtensions.Contains(Path.GetExtension(name), StringComparer.OrdinalIgnoreCase);
    }

    private static IEnumerable<Document> ReadText(RecordReader reader, string name, CorpusOptions options, CorpusReport report)
    {
        byte[]? separator = options.Separator is null ? null : Encoding.UTF8.GetBytes(options.Separator);
        for (long index = 0; ; index++)
        {
            bool any = separator is null
                ? reader.TryReadPiece(options.MaximumPieceBytes, out ReadOnlyMemory<byte> record)
                : reader.TryReadUntil(separator, out record);
            if (!any)
            {
                if (index == 0) report.SkippedEmpty++;
                yield break;
            }

            if (!Utf8.IsValid(record.Span) || record.Span.Contains((byte)0))
            {
                report.SkippedNotUtf8++;
                continue;
            }

            string text = Encoding.UTF8.GetString(record.Span);
            if (string.IsNullOrWhiteSpace(text))
            {
                report.SkippedEmpty++;
                continue;
            }

            report.Count(text, record.Length);
            yield return new Document(text, index == 0 ? name : $"{name}#{index}");
        }
    }

    private static IEnumerable<Document> ReadJsonLines(
        RecordReader reader, string file, string name, CorpusOptions options, CorpusReport report)
    {
        JsonLineParser parser = new(options.TextField);
        long line = 0, bad = 0, documents = 0;
        string? firstBad = null;
        while (reader.TryReadUntil("\n"u8, out ReadOnlyMemory<byte> record))
        {
            line++;
            if (record.Span.IndexOfAnyExcept((byte)' ', (byte)'\t', (byte)'\r') < 0) continue;
            if (!Utf8.IsValid(record.Span))
            {
                report.SkippedNotUtf8++;
                continue;
            }

            if (!parser.TryParse(record.Span, out string? text, out string? reason))
            {
                bad++;
                firstBad ??= $"line {line}: {reason}";
                report.SkippedBadLines++;
                report.FirstBadLine ??= $"{name}:{line}: {reason}";
                continue;
            }

            if (string.IsNullOrWhiteSpace(text))
            {
                report.SkippedEmpty++;
                continue;
            }

            documents++;
            report.Count(text, Encoding.UTF8.GetByteCount(text));
            yield return new Document(text, $"{name}:{line}");
        }

        if (bad > 0 && documents == 0)
            throw new TextFormatException($"reading the JSON lines of {file}: none of {line} lines is an object with a text in field \"{options.TextField}\"; {firstBad}");
        if (line == 0) report.SkippedEmpty++;
    }
}
