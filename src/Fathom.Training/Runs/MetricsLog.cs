// metrics.jsonl: a JSON object a step, numbers at full precision. After a crash the file may end in half a line, or hold steps that
// the checkpoint does not have; opening cuts it back to where training goes on.
using System.Text.Json;
using Fathom.Numerics;

namespace Fathom.Training;

/// <summary>Appends what steps and validations report.</summary>
public sealed class MetricsLog : IDisposable
{
    private readonly FileStream file;
    private readonly Utf8JsonWriter json;

    /// <summary>Opens the file to go on after a step.</summary>
    /// <param name="path">The file, made where it is missing.</param>
    /// <param name="lastStep">Lines of later steps are dropped.</param>
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

    /// <inheritdoc/>
    public void Dispose()
    {
        json.Dispose();
        file.Dispose();
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

    /// <summary>Where the last whole line of a step up to <paramref name="lastStep"/> ends.</summary>
    private static long EndOf(FileStream file, long lastStep)
    {
        var content = new byte[file.Length];
        file.ReadExactly(content);
        long end = 0;
        for (int start = 0; start < content.Length;)
        {
            int newline = content.AsSpan(start).IndexOf((byte)'\n');
            if (newline < 0 || StepOf(content.AsMemory(start, newline)) is not { } step || step > lastStep) break;
            start += newline + 1;
            end = start;
        }

        return end;
    }

    private static long? StepOf(ReadOnlyMemory<byte> line)
    {
        try
        {
            using JsonDocument document = JsonDocument.Parse(line);
            return document.RootElement.GetProperty("step").GetInt64();
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException or FormatException)
        {
            return null;
        }
    }
}
