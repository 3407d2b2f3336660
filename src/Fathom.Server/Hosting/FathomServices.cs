using Fathom.Inference;
using Fathom.Numerics;
using Fathom.Server.Accounts;
using Fathom.Server.Hosting;
using Fathom.Server.Http;
using Fathom.Server.Metrics;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;

namespace Fathom.Server;

/// <summary>Serves a model from within an application: <see cref="AddFathom(IServiceCollection, InferenceEngine, Action{FathomServerOptions})"/> here, and <see cref="FathomEndpoints.MapFathom"/> for its routes.</summary>
public static class FathomServices
{
    /// <summary>
    /// Adds what the routes need. With the application's end the engine is drained: what runs is finished, or cut at
    /// <see cref="FathomServerOptions.DrainDeadline"/>; allow the host that much time. The engine is disposed by who made it.
    /// </summary>
    /// <param name="services">Of the application.</param>
    /// <param name="engine">The engine with its model.</param>
    /// <param name="configure">Changes the options; null for the usual ones.</param>
    /// <exception cref="FathomException">An option is not possible; the message names it.</exception>
    public static IServiceCollection AddFathom(this IServiceCollection services, InferenceEngine engine, Action<FathomServerOptions>? configure = null)
    {
        ArgumentNullException.ThrowIfNull(services);
        ArgumentNullException.ThrowIfNull(engine);
        var options = new FathomServerOptions();
        configure?.Invoke(options);
        return services.AddFathom(engine, options);
    }

    /// <summary>Adds what the routes need, with options that are there already.</summary>
    internal static IServiceCollection AddFathom(this IServiceCollection services, InferenceEngine engine, FathomServerOptions options)
    {
        options.Validate();
        services.AddSingleton(options);
        services.AddSingleton(engine);
        services.AddSingleton<ServingState>();
        services.AddSingleton(new RateLimits(TimeProvider.System));
        services.AddSingleton<ServerMetrics>();
        services.AddSingleton(provider => new PrometheusText(provider.GetRequiredService<ServerMetrics>().Meter, options.MetricsPrefix));
        if (options.KeysFile is { } file) services.AddSingleton(_ => new KeyStore(file));
        services.AddSingleton<ModelService>();
        services.AddSingleton<RequestPipeline>();
        services.AddHostedService<EngineLifetime>();
        if (options.OtlpEndpoint is not null) services.AddHostedService<OtlpExport>();
        services.Configure<HostOptions>(host =>
        {
            TimeSpan needed = options.DrainDeadline + TimeSpan.FromSeconds(10);
            if (host.ShutdownTimeout < needed) host.ShutdownTimeout = needed;
        });
        services.AddLogging();
        return services;
    }
}
