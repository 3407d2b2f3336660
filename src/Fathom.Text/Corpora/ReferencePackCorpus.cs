// A corpus that every .NET developer has: the API documentation in the SDK's reference packs
// (packs/*.Ref/<version>/ref/<framework>/*.xml). Each documented member is one document. The ASP.NET Core pack repeats
// the files of the base pack; equal files are read once and equal documents given once.
using System.Buffers.Binary;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using System.Xml;

namespace Fathom.Text;

/// <summary>The API documentation that ships with the .NET SDK, as plain text.</summary>
public sealed class ReferencePackCorpus
{
    private const string BasePack = "Microsoft.NETCore.App.Ref";

    private static readonly XmlReaderSettings Settings = new()
    {
        DtdProcessing = DtdProcessing.Prohibit,
        XmlResolver = null,
        IgnoreComments = true,
        IgnoreProcessingInstructions = true,
    };

    private ReferencePackCorpus(string root, IReadOnlyList<string> files) => (Root, Files) = (root, files);

    /// <summary>The .NET installation that the packs belong to.</summary>
    public string Root { get; }

    /// <summary>The documentation files, the base pack first, then by pack and name in ordinal order; of several versions of a pack, the newest.</summary>
    public IReadOnlyList<string> Files { get; }

    /// <summary>Finds the packs of this machine's SDK; null where there are none (a runtime alone has none).</summary>
    /// <param name="dotnetRoot">Looks in this installation only.</param>
    public static ReferencePackCorpus? Find(string? dotnetRoot = null)
    {
        foreach (string root in dotnetRoot is null ? Installations() : [dotnetRoot])
        {
            List<string> files = FindFiles(root);
            if (files.Count > 0) return new ReferencePackCorpus(root, files);
        }

        return null;
    }

    /// <summary>A key that changes with the packs: SHA-256, in hex, over each file's path and length.</summary>
    public string Fingerprint()
    {
        StringBuilder text = new("reference packs 1\n");
        foreach (string file in Files)
            text.Append(Path.GetRelativePath(Root, file)).Append('\0').Append(new FileInfo(file).Length).Append('\n');
        return TokenFileHeader.HashText(text.ToString());
    }

    /// <summary>The documents, in the order of the files and of the members in them.</summary>
    /// <param name="report">Filled while enumerating; null when not wanted. Undocumented members count as empty.</param>
    /// <param name="workers">Threads that parse; 0 for one a processor. The result does not depend on it.</param>
    /// <exception cref="TextFormatException">A file cannot be read or is not XML.</exception>
    public IEnumerable<Document> Read(CorpusReport? report = null, int workers = 0)
    {
        report ??= new CorpusReport();
        report.Reset();
        if (workers == 0) workers = Environment.ProcessorCount;

        List<string> files = DistinctFiles();
        Dictionary<string, string[]> typeParameters = [];
        foreach (List<(string Type, string[] Names)> found in OrderedParallel.Select(files, ReadTypeParameters, workers))
        {
            foreach ((string type, string[] names) in found) typeParameters.TryAdd(type, names);
        }

        DocumentationId ids = new(typeParameters);
        HashSet<UInt128> seen = [];
        foreach (FileDocuments file in OrderedParallel.Select(files, f => ReadFile(f, ids), workers))
        {
            report.Files++;
            report.SkippedEmpty += file.Undocumented;
            foreach ((string text, UInt128 hash) in file.Documents)
            {
                if (!seen.Add(hash))
                {
                    report.SkippedDuplicates++;
                    continue;
                }

                report.Count(text, Encoding.UTF8.GetByteCount(text));
                yield return new Document(text, file.Name);
            }
        }
    }

    /// <summary>Where an SDK may be, the most specific first.</summary>
    private static IEnumerable<string> Installations()
    {
        if (Environment.GetEnvironmentVariable("DOTNET_ROOT") is { Length: > 0 } root) yield return root;

        // <root>/shared/Microsoft.NETCore.App/<version>/
        yield return Path.GetFullPath(Path.Combine(RuntimeEnvironment.GetRuntimeDirectory(), "..", "..", ".."));

        string program = OperatingSystem.IsWindows() ? "dotnet.exe" : "dotnet";
        foreach (string folder in (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator, StringSplitOptions.RemoveEmptyEntries))
        {
            if (!File.Exists(Path.Combine(folder, program))) continue;
            FileInfo file = new(Path.Combine(folder, program));
            string target = ResolveLink(file);
            if (Path.GetDirectoryName(target) is { } parent) yield return parent;
        }

        yield return "/usr/share/dotnet";
        yield return "/usr/lib/dotnet";
        yield return "/usr/local/share/dotnet";
        if (Environment.GetFolderPath(Environment.SpecialFolder.ProgramFiles) is { Length: > 0 } programs)
            yield return Path.Combine(programs, "dotnet");
    }

    private static string ResolveLink(FileInfo file)
    {
        try
        {
            return file.ResolveLinkTarget(returnFinalTarget: true)?.FullName ?? file.FullName;
        }
        catch (IOException)
        {
            return file.FullName;
        }
    }

    private static List<string> FindFiles(string root)
    {
        List<string> files = [];
        string packs = Path.Combine(root, "packs");
        if (!Directory.Exists(packs)) return files;
        try
        {
            foreach (string pack in Directory.GetDirectories(packs, "*.Ref")
                .OrderBy(static p => Path.GetFileName(p) != BasePack).ThenBy(static p => p, StringComparer.Ordinal))
            {
                if (Newest(pack) is { } version && Newest(Path.Combine(version, "ref")) is { } framework)
                    files.AddRange(Directory.GetFiles(framework, "*.xml").Order(StringComparer.Ordinal));
            }
        }
        catch (Exception failure) when (failure is UnauthorizedAccessException or IOException)
        {
            throw new TextFormatException($"looking for reference packs in {packs}: {failure.Message}", failure);
        }

        return files;
    }

    /// <summary>The folder with the highest version in its name; releases above their previews.</summary>
    private static string? Newest(string folder) => !Directory.Exists(folder) ? null : Directory.GetDirectories(folder)
        .OrderBy(static f => VersionOf(Path.GetFileName(f)))
        .ThenBy(static f => !Path.GetFileName(f).Contains('-'))
        .ThenBy(static f => f, StringComparer.Ordinal)
        .LastOrDefault();

    private static Version VersionOf(string name)
    {
        string digits = new([.. name.SkipWhile(static c => !char.IsAsciiDigit(c)).TakeWhile(static c => char.IsAsciiDigit(c) || c == '.')]);
        return Version.TryParse(digits, out Version? version) ? version : new Version(0, 0);
    }

    private List<string> DistinctFiles()
    {
        HashSet<(string Name, string Hash)> seen = [];
        List<string> files = [];
        foreach (string file in Files)
        {
            try
            {
                using FileStream stream = File.OpenRead(file);
                if (seen.Add((Path.GetFileName(file), Convert.ToHexStringLower(SHA256.HashData(stream))))) files.Add(file);
            }
            catch (Exception failure) when (failure is UnauthorizedAccessException or IOException)
            {
                throw new TextFormatException($"reading the reference pack file {file}: {failure.Message}", failure);
            }
        }

        return files;
    }

    private List<(string Type, string[] Names)> ReadTypeParameters(string file)
    {
        List<(string, string[])> found = [];
        ForEachMember(file, xml =>
        {
            if (xml.GetAttribute("name") is not { } id || !id.StartsWith("T:", StringComparison.Ordinal) || !id.Contains('`'))
            {
                xml.Skip();
                return;
            }

            List<string> names = [];
            using (XmlReader member = xml.ReadSubtree())
            {
                while (member.ReadToFollowing("typeparam"))
                {
                    if (member.GetAttribute("name") is { Length: > 0 } name) names.Add(name);
                }
            }

            xml.Read();
            found.Add((id[2..], [.. names]));
        });
        return found;
    }

    private FileDocuments ReadFile(string file, DocumentationId ids)
    {
        List<(string, UInt128)> documents = [];
        MemberDocumentation documentation = new(ids);
        long undocumented = 0;
        ForEachMember(file, xml =>
        {
            if (documentation.Read(xml) is { } text) documents.Add((text, Hash(text)));
            else undocumented++;
        });
        return new FileDocuments(Path.GetRelativePath(Path.Combine(Root, "packs"), file).Replace('\\', '/'), documents, undocumented);
    }

    private static UInt128 Hash(string text)
    {
        Span<byte> hash = stackalloc byte[SHA256.HashSizeInBytes];
        SHA256.HashData(MemoryMarshal.AsBytes(text.AsSpan()), hash);
        return BinaryPrimitives.ReadUInt128LittleEndian(hash);
    }

    /// <summary>Calls <paramref name="action"/> at each member element; it must move the reader behind the member.</summary>
    private static void ForEachMember(string file, Action<XmlReader> action)
    {
        try
        {
            using XmlReader xml = XmlReader.Create(file, Settings);
            xml.MoveToContent();
            while (!xml.EOF)
            {
                if (xml.NodeType == XmlNodeType.Element && xml.Name == "member") action(xml);
                else xml.Read();
            }
        }
        catch (XmlException failure)
        {
            throw new TextFormatException(string.Create(CultureInfo.InvariantCulture,
                $"reading the reference pack file {file}: it is not well-formed XML at line {failure.LineNumber}; repair the .NET SDK's installation"), failure);
        }
        catch (Exception failure) when (failure is UnauthorizedAccessException or IOException)
        {
            throw new TextFormatException($"reading the reference pack file {file}: {failure.Message}", failure);
        }
    }

    private sealed record FileDocuments(string Name, List<(string Text, UInt128 Hash)> Documents, long Undocumented);
}
