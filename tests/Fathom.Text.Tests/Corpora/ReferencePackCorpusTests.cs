using System.Diagnostics;
using Fathom.Testing;
using Xunit;

namespace Fathom.Text.Tests.Corpora;

public sealed class ReferencePackCorpusTests(ITestOutputHelper output) : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void A_member_reads_as_text_with_every_part_labelled()
    {
        Assert.Equal("""
            method Demo.Store<TKey>.Find<TItem>(TKey key, IEnumerable<TItem> items, ref int? count)

            Finds an item; see List<T> and Store<TKey>.Count.

            Second paragraph with `x < y` and null.

            Type parameters:
              TItem: The items' type.

            Parameters:
              key: The key of items. - one; - two: with a value.
              items: All of them.

            Returns: true if found; otherwise, false.

            Exceptions:
              KeyNotFoundException: key is not there.

            Remarks:
            Steps:
            - First.
            - term: Second.

            ```
            int n = 0;
                Find(n);
            ```

            """.ReplaceLineEndings("\n"), Assert.Single(Documents("""
            <member name="T:System.Collections.Generic.List`1"><typeparam name="T"/></member>
            <member name="T:Demo.Store`1"><typeparam name="TKey"/></member>
            <member name="M:Demo.Store`1.Find``1(`0,System.Collections.Generic.IEnumerable{``0},System.Nullable{System.Int32}@)">
              <summary>Finds an
                 item; see <see cref="T:System.Collections.Generic.List`1" /> and <see cref="P:Demo.Store`1.Count"></see> .
                 <para>Second  paragraph with <c>x &lt; y</c> and <see langword="null"/>.</para></summary>
              <param name="key">The key of <paramref name="items"/>.
                 <list type="bullet"><item><description>one</description></item><item><term>two</term><description>with a value.</description></item></list></param>
              <param name="items">All of them.</param>
              <param name="count"/>
              <typeparam name="TItem">The items' type.</typeparam>
              <returns><see langword="true"/> if found; otherwise, <see langword="false"/>.</returns>
              <exception cref="T:System.Collections.Generic.KeyNotFoundException"><paramref name="key"/> is not there.</exception>
              <remarks>Steps:<list type="number"><listheader><term>Word</term><description>Meaning</description></listheader>
                 <item>First.</item><item><term> term </term><description>Second.</description></item></list>
                 <code>
                     int n = 0;
                         Find(n);
                 </code></remarks>
            </member>
            """)).Text);
    }

    [Theory]
    [InlineData("M:System.String.Join(System.String,System.String[])", "method System.String.Join(string, string[])")]
    [InlineData("M:System.String.#ctor(System.Char*)", "constructor System.String(char*)")]
    [InlineData("M:System.Decimal.op_Addition(System.Decimal,System.Decimal)", "method System.Decimal.operator +(decimal, decimal)")]
    [InlineData("M:System.Decimal.op_Implicit(System.Byte)~System.Decimal", "method System.Decimal.implicit operator decimal(byte)")]
    [InlineData("M:System.Int128.op_CheckedExplicit(System.Int128)~System.Byte", "method System.Int128.explicit operator checked byte(Int128)")]
    [InlineData("M:System.Byte.System#Numerics#IAdditionOperators{System#Byte@System#Byte@System#Byte}#op_Addition(System.Byte,System.Byte)", "method System.Byte.IAdditionOperators<byte, byte, byte>.operator +(byte, byte)")]
    [InlineData("P:System.String.Chars(System.Int32)", "property System.String.Chars[int]")]
    [InlineData("P:System.Collections.Generic.List`1.Item(System.Int32)", "property System.Collections.Generic.List<T>.this[int]")]
    [InlineData("M:System.Collections.Generic.Dictionary`2.TryGetAlternateLookup``1(System.Collections.Generic.Dictionary{`0,`1}.AlternateLookup{``0}@)", "method System.Collections.Generic.Dictionary<T1, T2>.TryGetAlternateLookup<T>(ref Dictionary<T1, T2>.AlternateLookup<T>)")]
    [InlineData("M:X.Y(System.Int32[0:,0:],System.ValueTuple{System.Int32,System.Func{System.Object}}[][])", "method X.Y(int[,], (int, Func<object>)[][])")]
    [InlineData("M:X.Y(System.Int32*,`3", "method X.Y(int*, T)")]
    [InlineData("T:System.Func`2", "type System.Func<T1, T2>")]
    [InlineData("F:System.Int32.MaxValue", "field System.Int32.MaxValue")]
    [InlineData("E:A.B.Changed", "event A.B.Changed")]
    [InlineData("nonsense", "type nonsense")]
    [InlineData("M:", "type M:")]
    [InlineData("M:F{", "method .F{()")]
    [InlineData("M:A.B(C{D", "method A.B(C<D>)")]
    public void Documentation_ids_become_headings(string id, string heading) =>
        Assert.Equal(heading, Assert.Single(Documents($"<member name=\"{id}\"><summary>x</summary></member>")).Text.Split('\n')[0]);

    [Fact]
    public void No_mutated_id_or_nesting_breaks_the_reading()
    {
        string[] ids =
        [
            "M:A.B`2.C``1(System.Nullable{System.Int32}@,`1[0:,0:],System.Func{``0,A.B{`0}.D{System.ValueTuple{X,Y}}}*)~System.String",
            "M:A.B.System#I{System#Byte@System#Byte}#op_CheckedAddition(System.Byte)", "P:A.B`1.Item(System.Int32)", "T:A.B`2.C`1",
        ];
        const string alphabet = "`{}()[]@#~*,.:0aMTP";
        SplitMix64 random = new(2);
        const int count = 20_000;
        System.Text.StringBuilder members = new();
        for (int i = 0; i < count; i++)
        {
            System.Text.StringBuilder id = new(ids[random.NextBelow((ulong)ids.Length)]);
            for (ulong changes = 1 + random.NextBelow(4); changes > 0; changes--)
            {
                int at = (int)random.NextBelow((ulong)id.Length);
                if (random.NextBelow(2) == 0) id[at] = alphabet[(int)random.NextBelow((ulong)alphabet.Length)];
                else id.Remove(at, Math.Min(id.Length - at, 1 + (int)random.NextBelow(8)));
                if (id.Length == 0) id.Append('M');
            }

            members.Append($"<member name=\"{id}\"><summary>{i} <see cref=\"{id}\"/></summary></member>");
        }

        string deep = "M:A.B(" + new string('{', 100_000);
        members.Append($"<member name=\"{deep}\"><summary>deep id</summary></member>");
        members.Append($"<member name=\"T:Deep\"><summary>{string.Concat(Enumerable.Repeat("<b>", 100_000))}{string.Concat(Enumerable.Repeat("</b>", 100_000))}deep text</summary></member>");
        List<Document> documents = Documents(members.ToString());
        output.WriteLine($"{documents.Count} documents from {count} mutated ids and 2 deep members");
        Assert.Equal(count + 2, documents.Count);
        Assert.Equal("member\n\ndeep id\n", documents[^2].Text);
        Assert.Equal("type Deep\n\ndeep text\n", documents[^1].Text);
    }

    [Fact]
    public void Members_without_text_and_repeated_documents_are_left_out()
    {
        const string members = """
            <member name="M:A.B"><inheritdoc/></member>
            <member name="M:A.C"><summary> </summary><param name="x"/></member>
            <member name="M:A.D"/>
            <member name="M:A.E"><summary>Said.</summary></member>
            """;
        WritePack("One.Ref", "1.0.0", "A.xml", members);
        WritePack("Two.Ref", "1.0.0", "A.xml", members);
        WritePack("Two.Ref", "1.0.0", "B.xml", members + "<!-- another file -->");
        CorpusReport report = new();
        Document document = Assert.Single(ReferencePackCorpus.Find(_folder.Path)!.Read(report));
        Assert.Equal("One.Ref/1.0.0/ref/net10.0/A.xml", document.Source);
        Assert.Equal((2, 6, 1), (report.Files, report.SkippedEmpty, report.SkippedDuplicates));
    }

    [Fact]
    public void The_newest_version_of_a_pack_is_read_and_the_base_pack_first()
    {
        foreach ((string pack, string version) in new[] { ("Z.Ref", "9.0.11"), ("Z.Ref", "10.0.2"), ("Z.Ref", "10.0.2-rc.1"), ("Microsoft.NETCore.App.Ref", "10.0.0"), ("A.Ref", "1.0") })
            WritePack(pack, version, "D.xml", $"<member name=\"T:{pack}\"><summary>{version}</summary></member>");
        Directory.CreateDirectory(_folder.File("packs", "Empty.Ref"));
        Assert.Equal(["10.0.0", "1.0", "10.0.2"], ReferencePackCorpus.Find(_folder.Path)!.Read().Select(static d => d.Text.Split('\n')[2]));
    }

    [Fact]
    public void No_packs_is_null_and_broken_xml_names_file_and_line()
    {
        Assert.Null(ReferencePackCorpus.Find(_folder.Path));
        WritePack("One.Ref", "1.0.0", "A.xml", "<member name=\"T:A\"><summary>cut");
        Refused("not well-formed XML at line 1");
        WritePack("One.Ref", "1.0.0", "A.xml", "", "<!DOCTYPE doc [<!ENTITY e SYSTEM \"file:///etc/passwd\">]>");
        Refused("not well-formed XML");

        void Refused(string part)
        {
            TextFormatException error = Assert.Throws<TextFormatException>(() => ReferencePackCorpus.Find(_folder.Path)!.Read().ToList());
            output.WriteLine(error.Message);
            Assert.Contains("A.xml", error.Message);
            Assert.Contains(part, error.Message);
        }
    }

    [Fact]
    public void This_machines_packs_are_read_quickly_and_the_same_with_any_number_of_threads()
    {
        ReferencePackCorpus? corpus = ReferencePackCorpus.Find();
        Assert.SkipUnless(corpus is not null, "this machine has no reference packs");
        long inputBytes = corpus.Files.Sum(static f => new FileInfo(f).Length);
        CorpusReport report = new();
        Stopwatch watch = Stopwatch.StartNew();
        List<Document> documents = [.. corpus.Read(report)];
        double seconds = watch.Elapsed.TotalSeconds;
        output.WriteLine($"{corpus.Root}: {inputBytes / 1e6:f1} MB of XML in {seconds:f2} s; {report}");
        Assert.True(seconds < 60, $"took {seconds:f1} s");

        string join = documents.Single(static d => d.Text.StartsWith("method System.String.Join(string separator, string[] value)\n", StringComparison.Ordinal)).Text;
        output.WriteLine(join);
        Assert.Contains("\nParameters:\n  separator: The string to use as a separator.", join);
        Assert.Contains("\nExceptions:\n  ArgumentNullException: value is null.\n", join);
        Assert.Contains(documents, static d => d.Text.StartsWith("method System.Collections.Generic.Dictionary<TKey, TValue>.TryAdd(TKey key, TValue value)\n", StringComparison.Ordinal));
        Assert.Equal(documents.Count, documents.Select(static d => d.Text).Distinct().Count());
        Assert.Equal(documents, corpus.Read(workers: 1));
    }

    private List<Document> Documents(string members)
    {
        WritePack("One.Ref", "1.0.0", "A.xml", members);
        return [.. ReferencePackCorpus.Find(_folder.Path)!.Read(workers: 1)];
    }

    private void WritePack(string pack, string version, string file, string members, string prolog = "")
    {
        string folder = _folder.File("packs", pack, version, "ref", "net10.0");
        Directory.CreateDirectory(folder);
        File.WriteAllText(Path.Combine(folder, file), $"<?xml version=\"1.0\"?>{prolog}<doc><assembly><name>A</name></assembly><members>{members}</members></doc>");
    }
}
