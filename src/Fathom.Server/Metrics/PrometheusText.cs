// The text format of Prometheus (exposition format 0.0.4), kept from the same Meter that OTLP exports. Counters get _total, as scrapers
// of OpenMetrics expect and vLLM's own exposition has it.
using System.Diagnostics.Metrics;
using System.Globalization;
using System.Text;

namespace Fathom.Server.Metrics;

/// <summary>Collects the measurements of a meter and writes them. Safe for many threads.</summary>
internal sealed class PrometheusText : IDisposable
{
    private readonly string prefix;
    private readonly MeterListener listener = new();
    private readonly Lock gate = new();
    private readonly SortedDictionary<string, Family> families = new(StringComparer.Ordinal);

    /// <summary>Listens from now on.</summary>
    /// <param name="meter">Whose instruments.</param>
    /// <param name="prefix">Of all names, without the colon.</param>
    public PrometheusText(Meter meter, string prefix)
    {
        this.prefix = prefix;
        listener.InstrumentPublished = (instrument, self) =>
        {
            if (ReferenceEquals(instrument.Meter, meter)) self.EnableMeasurementEvents(instrument);
        };
        listener.SetMeasurementEventCallback<double>((instrument, value, tags, _) => Take(instrument, value, tags));
        listener.SetMeasurementEventCallback<long>((instrument, value, tags, _) => Take(instrument, value, tags));
        listener.Start();
    }

    /// <summary>All families, with what is observed now.</summary>
    public string Write()
    {
        listener.RecordObservableInstruments();
        var text = new StringBuilder(16 * 1024);
        lock (gate)
        {
            foreach ((string name, Family family) in families) family.Write(text, $"{prefix}:{name}");
        }

        return text.ToString();
    }

    public void Dispose() => listener.Dispose();

    private void Take(Instrument instrument, double value, ReadOnlySpan<KeyValuePair<string, object?>> tags)
    {
        string name = instrument.Name[(instrument.Name.IndexOf('.', StringComparison.Ordinal) + 1)..];
        string labels = Labels(tags);
        lock (gate)
        {
            if (!families.TryGetValue(name, out Family? family)) families[name] = family = new Family(instrument);
            family.Take(labels, value);
        }
    }

    private static string Labels(ReadOnlySpan<KeyValuePair<string, object?>> tags)
    {
        var text = new StringBuilder();
        foreach ((string name, object? value) in tags)
        {
            string escaped = Convert.ToString(value, CultureInfo.InvariantCulture)!.Replace("\\", "\\\\", StringComparison.Ordinal)
                .Replace("\"", "\\\"", StringComparison.Ordinal).Replace("\n", "\\n", StringComparison.Ordinal);
            text.Append(text.Length == 0 ? "" : ",").Append(name).Append("=\"").Append(escaped).Append('"');
        }

        return text.ToString();
    }

    private sealed class Family(Instrument instrument)
    {
        private readonly SortedDictionary<string, Series> series = new(StringComparer.Ordinal);
        private readonly double[]? buckets = (instrument as Histogram<double>)?.Advice?.HistogramBucketBoundaries?.ToArray();
        private readonly bool adds = instrument is Counter<long>;

        private string Kind => buckets is not null ? "histogram" : adds || instrument is ObservableCounter<long> ? "counter" : "gauge";

        public void Take(string labels, double value)
        {
            if (!series.TryGetValue(labels, out Series? one)) series[labels] = one = new Series { Counts = new long[buckets?.Length ?? 0] };
            if (buckets is not null)
            {
                int at = Array.BinarySearch(buckets, value);
                if (at < 0) at = ~at; // the first that is not below
                if (at < buckets.Length) one.Counts[at]++;
                one.Count++;
            }

            one.Value = adds || buckets is not null ? one.Value + value : value;
        }

        public void Write(StringBuilder text, string name)
        {
            if (Kind == "counter") name += "_total";
            text.Append("# HELP ").Append(name).Append(' ').Append(instrument.Description).Append("\n# TYPE ").Append(name).Append(' ').Append(Kind).Append('\n');
            foreach ((string labels, Series one) in series)
            {
                if (buckets is null)
                {
                    Line(text, name, labels, one.Value);
                    continue;
                }

                long sum = 0;
                for (int i = 0; i < buckets.Length; i++) Line(text, name + "_bucket", $"{labels},le=\"{Number(buckets[i])}\"", sum += one.Counts[i]);
                Line(text, name + "_bucket", $"{labels},le=\"+Inf\"", one.Count);
                Line(text, name + "_sum", labels, one.Value);
                Line(text, name + "_count", labels, one.Count);
            }
        }

        private static void Line(StringBuilder text, string name, string labels, double value) =>
            text.Append(name).Append('{').Append(labels).Append("} ").Append(Number(value)).Append('\n');

        private static string Number(double value) => value == Math.Floor(value) && Math.Abs(value) < 1e15
            ? value.ToString("0.0", CultureInfo.InvariantCulture)
            : value.ToString("R", CultureInfo.InvariantCulture);

        private sealed class Series
        {
            public required long[] Counts { get; init; }

            public long Count { get; set; }

            public double Value { get; set; }
        }
    }
}
