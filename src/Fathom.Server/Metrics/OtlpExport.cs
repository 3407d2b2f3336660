// Sends the meter's instruments with OTLP over HTTP. Built by hand: the packages that hook OpenTelemetry into hosts are not needed for it.
using Microsoft.Extensions.Hosting;
using OpenTelemetry;
using OpenTelemetry.Exporter;
using OpenTelemetry.Metrics;

namespace Fathom.Server.Metrics;

/// <summary>Exports metrics while the server runs.</summary>
internal sealed class OtlpExport(FathomServerOptions options) : IHostedService
{
    private MeterProvider? provider;

    public Task StartAsync(CancellationToken cancellationToken)
    {
        provider = Sdk.CreateMeterProviderBuilder()
            .AddMeter(ServerMetrics.MeterName)
            .AddOtlpExporter(otlp =>
            {
                // The path belongs to HTTP alone, so the exporter adds none to an address that was set by hand.
                otlp.Endpoint = new Uri(options.OtlpEndpoint!, "/v1/metrics");
                otlp.Protocol = OtlpExportProtocol.HttpProtobuf;
            })
            .Build();
        return Task.CompletedTask;
    }

    /// <summary>Sends what was measured last, and ends.</summary>
    public Task StopAsync(CancellationToken cancellationToken)
    {
        provider?.Dispose();
        return Task.CompletedTask;
    }
}
