// Sends the meter's instruments and the requests' spans with OTLP over HTTP. Built by hand: the packages that hook OpenTelemetry into hosts are not needed for it.
using Microsoft.Extensions.Hosting;
using OpenTelemetry;
using OpenTelemetry.Exporter;
using OpenTelemetry.Metrics;
using OpenTelemetry.Resources;
using OpenTelemetry.Trace;

namespace Fathom.Server.Metrics;

/// <summary>Exports metrics and spans while the server runs.</summary>
internal sealed class OtlpExport(FathomServerOptions options) : IHostedService
{
    private MeterProvider? metrics;
    private TracerProvider? traces;

    public Task StartAsync(CancellationToken cancellationToken)
    {
        ResourceBuilder resource = ResourceBuilder.CreateDefault().AddService("fathom", serviceVersion: Hosting.ServerVersion.Text);
        metrics = Sdk.CreateMeterProviderBuilder().SetResourceBuilder(resource).AddMeter(ServerMetrics.MeterName).AddOtlpExporter(otlp => Send(otlp, "/v1/metrics")).Build();
        traces = Sdk.CreateTracerProviderBuilder().SetResourceBuilder(resource).AddSource(RequestTracing.SourceName).AddOtlpExporter(otlp => Send(otlp, "/v1/traces")).Build();
        return Task.CompletedTask;
    }

    /// <summary>Sends what was measured last, and ends.</summary>
    public Task StopAsync(CancellationToken cancellationToken)
    {
        metrics?.Dispose();
        traces?.Dispose();
        return Task.CompletedTask;
    }

    private void Send(OtlpExporterOptions otlp, string path)
    {
        // The path belongs to HTTP alone, so the exporter adds none to an address that was set by hand.
        otlp.Endpoint = new Uri(options.OtlpEndpoint!, path);
        otlp.Protocol = OtlpExportProtocol.HttpProtobuf;
    }
}
