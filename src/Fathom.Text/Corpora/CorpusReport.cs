// What a corpus held and what was left out, by reason. A training set must not shrink silently.
using System.Globalization;

namespace Fathom.Text;

/// <summary>Counts of one pass over a corpus; complete when the enumeration has ended, and reset when a new one begins.</summary>
public sealed class CorpusReport
{
    /// <summary>Files that were opened.</summary>
    public long Files { get; internal set; }

    /// <summary>Documents that were given out.</summary>
    public long Documents { get; internal set; }

    /// <summary>UTF-16 code units of those documents.</summary>
    public long Characters { get; internal set; }

    /// <summary>UTF-8 bytes of those documents.</summary>
    public long Utf8Bytes { get; internal set; }

    /// <summary>Documents left out because they were empty or only white space.</summary>
    public long SkippedEmpty { get; internal set; }

    /// <summary>Files or pieces left out because they are not UTF-8 text (a NUL byte counts as not text).</summary>
    public long SkippedNotUtf8 { get; internal set; }

    /// <summary>JSON lines left out because they were no object or had no string in the chosen field.</summary>
    public long SkippedBadLines { get; internal set; }

    /// <summary>The first of those, as <c>file:line: reason</c>.</summary>
    public string? FirstBadLine { get; internal set; }

    /// <summary>Documents left out because the same text came earlier.</summary>
    public long SkippedDuplicates { get; internal set; }

    /// <summary>One line, e.g. <c>68 documents, 1115394 characters, 1115394 bytes of UTF-8 from 1 file; skipped 2 empty</c>.</summary>
    public override string ToString()
    {
        string skipped = DescribeSkipped();
        return string.Create(CultureInfo.InvariantCulture,
            $"{Documents} document{(Documents == 1 ? "" : "s")}, {Characters} characters, {Utf8Bytes} bytes of UTF-8 from {Files} file{(Files == 1 ? "" : "s")}{(skipped.Length > 0 ? "; skipped " : "")}{skipped}");
    }

    internal string DescribeSkipped()
    {
        List<string> reasons = [];
        if (SkippedEmpty > 0) reasons.Add($"{SkippedEmpty} empty");
        if (SkippedNotUtf8 > 0) reasons.Add($"{SkippedNotUtf8} not UTF-8 text");
        if (SkippedBadLines > 0) reasons.Add($"{SkippedBadLines} bad JSON line{(SkippedBadLines == 1 ? "" : "s")} (first: {FirstBadLine})");
        if (SkippedDuplicates > 0) reasons.Add($"{SkippedDuplicates} duplicates");
        return string.Join(", ", reasons);
    }

    internal void Reset()
    {
        Files = Documents = Characters = Utf8Bytes = 0;
        SkippedEmpty = SkippedNotUtf8 = SkippedBadLines = SkippedDuplicates = 0;
        FirstBadLine = null;
    }

    internal void Count(string text, long utf8Bytes)
    {
        Documents++;
        Characters += text.Length;
        Utf8Bytes += utf8Bytes;
    }
}
