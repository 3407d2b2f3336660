// The routes, each with what it needs. Everything but /health needs a key once there is one.
using Fathom.Server.Accounts;
using Fathom.Server.Answers;
using Fathom.Server.Anthropic;
using Fathom.Server.Hosting;
using Fathom.Server.Http;
using Fathom.Server.Metrics;
using Fathom.Server.OpenAI;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;

namespace Fathom.Server;

/// <summary>Maps the routes of the server.</summary>
public static class FathomEndpoints
{
    /// <summary>Maps all routes into an application to which <see cref="FathomServices.AddFathom(IServiceCollection, Inference.InferenceEngine, Action{FathomServerOptions})"/> was applied.</summary>
    /// <param name="endpoints">Of the application, or a group of it.</param>
    public static IEndpointRouteBuilder MapFathom(this IEndpointRouteBuilder endpoints)
    {
        ArgumentNullException.ThrowIfNull(endpoints);
        IServiceProvider services = endpoints.ServiceProvider;
        var service = services.GetRequiredService<ModelService>();
        var pipeline = services.GetRequiredService<RequestPipeline>();
        var map = new Mapper(endpoints, pipeline);
        MapState(endpoints, map, service, services.GetRequiredService<ServingState>(), services.GetRequiredService<PrometheusText>());
        MapModel(map, service);
        var answering = new Answering(service, pipeline);
        var chat = new ChatEndpoint(service, answering);
        map.Post(chat.HandleAsync, "/v1/chat/completions", "/chat/completions", "/beta/chat/completions");
        var completions = new CompletionEndpoint(service, answering);
        map.Post(completions.HandleAsync, "/v1/completions", "/completions", "/beta/completions");
        var responses = new ResponsesEndpoint(service, answering);
        map.Post(responses.HandleAsync, "/v1/responses", "/responses");
        var messages = new MessagesEndpoint(service, answering);
        map.Post(RouteNeeds.Work, messages.HandleAsync, AnthropicError.Shape, "/v1/messages", "/anthropic/v1/messages");
        map.Post(RouteNeeds.Key, messages.CountAsync, AnthropicError.Shape, "/v1/messages/count_tokens", "/anthropic/v1/messages/count_tokens");
        return endpoints;
    }

    /// <summary>Maps /health, which needs neither a model nor a key.</summary>
    internal static void MapHealth(this IEndpointRouteBuilder endpoints) => new Mapper(endpoints, endpoints.ServiceProvider.GetRequiredService<RequestPipeline>())
        .Get(RouteNeeds.Nothing, "/health", scope => JsonReply.SendAsync(scope.Http, 200, json =>
        {
            json.WriteStartObject();
            json.WriteString("status", "ok");
            json.WriteEndObject();
        }));

    private static void MapState(IEndpointRouteBuilder endpoints, Mapper map, ModelService service, ServingState state, PrometheusText metrics)
    {
        endpoints.MapHealth();
        map.Get(RouteNeeds.Key, "/ready", scope => JsonReply.SendAsync(scope.Http, state.Phase == ServingPhase.Ready ? 200 : 503, json =>
        {
            json.WriteStartObject();
            json.WriteString("status", state.Phase.ToString().ToLowerInvariant());
            json.WriteEndObject();
        }));
        map.Get(RouteNeeds.Key, "/version", scope => JsonReply.SendAsync(scope.Http, 200, json =>
        {
            json.WriteStartObject();
            json.WriteString("version", ServerVersion.Text);
            json.WriteEndObject();
        }));
        map.Get(RouteNeeds.Key, "/metrics", async scope =>
        {
            scope.Http.Response.ContentType = "text/plain; version=0.0.4; charset=utf-8";
            await scope.Http.Response.WriteAsync(metrics.Write(), scope.Aborted).ConfigureAwait(false);
        });
        byte[] description = Description();
        map.Get(RouteNeeds.Key, "/openapi.json", async scope =>
        {
            scope.Http.Response.ContentType = "application/json";
            await scope.Http.Response.BodyWriter.WriteAsync(description, scope.Aborted).ConfigureAwait(false);
        });
        map.Get(RouteNeeds.Key, "/user/balance", scope => JsonReply.SendAsync(scope.Http, 200, json => BalanceBody.Write(json, scope.Account, service.Options.Prices)));
    }

    /// <summary>The routes for machines; written by hand, and held against the routes by a test.</summary>
    private static byte[] Description()
    {
        using Stream resource = typeof(FathomEndpoints).Assembly.GetManifestResourceStream("openapi.json")!;
        var bytes = new byte[resource.Length];
        resource.ReadExactly(bytes);
        return bytes;
    }

    private static void MapModel(Mapper map, ModelService service)
    {
        foreach (string path in (string[])["/v1/models", "/models"])
        {
            map.Get(RouteNeeds.Key, path, scope => JsonReply.SendAsync(scope.Http, 200, json => ModelsBody.WriteList(json, service)));
            map.Get(RouteNeeds.Key, path + "/{**name}", scope =>
            {
                string name = service.ResolveModel((string?)scope.Http.Request.RouteValues["name"]);
                return JsonReply.SendAsync(scope.Http, 200, json => ModelsBody.WriteOne(json, service, name));
            });
        }

        var tokens = new TokenizeEndpoint(service);
        map.Post(RouteNeeds.Key, tokens.TokenizeAsync, "/tokenize", "/v1/tokenize");
        map.Post(RouteNeeds.Key, tokens.DetokenizeAsync, "/detokenize", "/v1/detokenize");
    }

    /// <summary>Maps routes with everything around them.</summary>
    private sealed class Mapper(IEndpointRouteBuilder endpoints, RequestPipeline pipeline)
    {
        public void Get(RouteNeeds needs, string path, Func<RequestScope, Task> handler) => endpoints.MapGet(path, pipeline.Wrap(needs, ErrorBody.Shape, handler));

        public void Post(Func<RequestScope, Task> handler, params string[] paths) => Post(RouteNeeds.Work, handler, paths);

        public void Post(RouteNeeds needs, Func<RequestScope, Task> handler, params string[] paths) => Post(needs, handler, ErrorBody.Shape, paths);

        public void Post(RouteNeeds needs, Func<RequestScope, Task> handler, ErrorShape errors, params string[] paths)
        {
            foreach (string path in paths) endpoints.MapPost(path, pipeline.Wrap(needs, errors, handler));
        }
    }
}
