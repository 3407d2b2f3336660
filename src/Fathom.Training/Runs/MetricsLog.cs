// metrics.jsonl: a JSON object a step, numbers at full precision, and how training ended. After a crash the file may end in half a line,
// or hold steps that the checkpoint does not have; opening cuts it back to where training goes on.
using System.Text.Json;
using Fathom.Numerics;

namespace Fathom.Training;

/// <summary>How training ended; a process that was killed says nothing.</summary>
public enum RunEnd
{
    /// <summary>It reached the end that its configuration names.</summary>
    Finished,

    /// <summary>It was asked to stop.</summary>
    Stopped,

    /// <summary>The loss or a gradient was not finite.</summary>
    Diverged,

    /// <summary>It could not go on: a full disk, memory, a device.</summary>
    Failed,
}

/// <summary>Appends what steps and validations report.</summary>
public sealed class MetricsLog : IDisposable
{
    private readonly FileStream file;
    private readonly Utf8JsonWriter json;

    /// <summary>Opens the file to go on after a step.</summary>
    /// <param name="path">The file, made where it is missing.</param>
    /// <param name="lastStep">Lines of later steps are dropped, and an end, which is none any more.</param>
    /// <exception cref="FathomException">The file cannot be written.</exception>
    public MetricsLog(string path, long lastStep)
    {
        try
        {
            file = new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.Read);
            long end = EndOf(file, lastStep);
            file.SetLength(end);
            file.Position = end;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new FathomException($"cannot write the metrics {path}: {e.Message}", e);
        }

        json = new Utf8JsonWriter(file, new JsonWriterOptions { SkipValidation = true });
    }

    /// <summary>Writes a training step.</summary>
    /// <param name="report">The step.</param>
    /// <param name="peakShare">Share of the machine's measured peak, from model FLOPs.</param>
    /// <param name="memoryBytes">Resident memory of the process.</param>
    public void Step(StepReport report, double peakShare, long memoryBytes)
    {
        json.WriteStartObject();
        json.WriteNumber("step", report.Step);
        json.WriteNumber("tokens", report.Tokens);
        json.WriteNumber("loss", report.Loss);
        json.WriteNumber("total_loss", report.TotalLoss);
        WriteArray("mtp_loss", report.MtpLoss);
        WriteArray("mtp_accuracy", report.MtpAccuracy);
        json.WriteNumber("balance_loss", report.BalanceLoss);
        json.WriteNumber("grad_norm", report.GradientNorm);
        json.WriteNumber("lr", report.LearningRate);
        json.WriteNumber("seconds", report.Seconds);
        json.WriteNumber("tokens_per_second", report.StepTokens / report.Seconds);
        json.WriteNumber("peak_share", peakShare);
        WriteArray("load_imbalance", report.LoadImbalance);
        json.WriteNumber("memory_bytes", memoryBytes);
        EndLine();
    }

    /// <summary>Writes a validation.</summary>
    public void Validation(long step, ValidationReport report)
    {
        json.WriteStartObject();
        json.WriteNumber("step", step);
        json.WriteNumber("val_loss", report.Loss);
        if (double.IsFinite(report.BitsPerByte)) json.WriteNumber("val_bpb", report.BitsPerByte);
        json.WriteNumber("val_tokens", report.Tokens);
        EndLine();
    }

    /// <summary>Writes how many tokens of a step chose each expert, and between what the routing biases lie.</summary>
    /// <param name="report">The step.</param>
    /// <param name="layers">The expert layers' numbers in the checkpoint.</param>
    public void ExpertLoad(StepReport report, ReadOnlySpan<int> layers)
    {
        json.WriteStartObject();
        json.WriteNumber("step", report.Step);
        json.WriteStartArray("expert_layers");
        foreach (int layer in layers) json.WriteNumberValue(layer);
        json.WriteEndArray();
        json.WriteStartArray("expert_load");
        foreach (long[] loads in report.ExpertLoad)
        {
            json.WriteStartArray();
            foreach (long load in loads) json.WriteNumberValue(load);
            json.WriteEndArray();
        }

        json.WriteEndArray();
        if (report.HasRoutingBias)
        {
            json.WriteStartArray("routing_bias");
            foreach ((float lowest, float highest) in report.RoutingBias)
            {
                json.WriteStartArray();
                json.WriteNumberValue(lowest);
                json.WriteNumberValue(highest);
                json.WriteEndArray();
            }

            json.WriteEndArray();
        }

        EndLine();
    }

    /// <summary>Writes how training ended, as the last line.</summary>
    /// <param name="step">The last step.</param>
    /// <param name="end">How.</param>
    /// <param name="reason">Why, in a sentence; null where there is nothing to say.</param>
    /// <exception cref="IOException">It cannot be written.</exception>
    public void End(long step, RunEnd end, string? reason)
    {
        json.WriteStartObject();
        json.WriteNumber("step", step);
        json.WriteString("end", end switch { RunEnd.Finished => "finished", RunEnd.Stopped => "stopped", RunEnd.Diverged => "diverged", _ => "failed" });
        if (reason is not null) json.WriteString("reason", reason);
        EndLine();
    }

    /// <summary>Closes the file. A line that could not be written has been reported, and is given up.</summary>
    public void Dispose()
    {
        foreach (IDisposable part in (IDisposable[])[json, file])
        {
            try
            {
                part.Dispose();
            }
            catch (IOException)
            {
                // What is pending is the line that failed.
            }
        }
    }

    private void WriteArray(string name, double[] values)
    {
        json.WriteStartArray(name);
        foreach (double value in values) json.WriteNumberValue(value);
        json.WriteEndArray();
    }

    private void EndLine()
    {
        json.WriteEndObject();
        json.Flush();
        file.WriteByte((byte)'\n');
        file.Flush();
        json.Reset();
    }

    /// <summary>Where the last whole line of a step up to <paramref name="lastStep"/> ends. Read in pieces: the file of a long run has gigabytes.</summary>
    private static long EndOf(FileStream file, long lastStep)
    {
        var buffer = new byte[1 << 20];
        long end = 0; // in the file, of the lines that stay
        int held = 0; // bytes of the buffer, which begins at end
        while (true)
        {
            int read = file.Read(buffer, held, buffer.Length - held);
            held += read;
            int used = 0;
            while (buffer.AsSpan(used, held - used).IndexOf((byte)'\n') is >= 0 and var length)
            {
                if (StepOf(buffer.AsSpan(used, length)) is not { } step || step > lastStep) return end;
                used += length + 1;
                end += length + 1;
            }

            if (read == 0) return end;
            buffer.AsSpan(used, held - used).CopyTo(buffer);
            held -= used;
            if (held == buffer.Length) Array.Resize(ref buffer, buffer.Length * 2);
        }
    }

    /// <summary>The step of a line that is a whole JSON object; null for anything else, and for the end.</summary>
    private static long? StepOf(ReadOnlySpan<byte> line)
    {
        try
        {
            var reader = new Utf8JsonReader(line);
            if (!reader.Read() || reader.TokenType != JsonTokenType.StartObject) return null;
            long? step = null;
            while (reader.Read())
            {
                if (reader.TokenType != JsonTokenType.PropertyName) continue;
                if (reader.ValueTextEquals("end"u8)) return null;
                bool isStep = reader.ValueTextEquals("step"u8);
                reader.Read();
                if (isStep && reader.TokenType == JsonTokenType.Number && reader.TryGetInt64(out long number)) step = number;
                else reader.Skip();
            }

            return step;
        }
        catch (JsonException)
        {
            return null;
        }
    }
}
