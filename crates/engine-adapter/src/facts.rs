//! What an engine says about itself.

use std::time::Duration;

use diagnostics::Diagnostic;
use reasoning::Format;
use rest_client::RestClient;
use serde_json::{Value, json};
use worker_contract::{Capability, EngineKind};

use crate::{
    engine::{AdapterSettings, Engine},
    errors,
    json::count,
};

/// Context length if neither the command line nor the engine says one.
const DEFAULT_CONTEXT: u32 = 4096;
/// Time limit of a question.
const LIMIT: Option<Duration> = Some(Duration::from_secs(30));
/// Time limit for loading a model.
const LOAD_LIMIT: Option<Duration> = Some(Duration::from_secs(1800));

/// Limits and features of an engine and its model. What the engine does not say is missing.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub context: u32,
    pub slots: u32,
    /// Number of tokens of the vocabulary; the largest number if unknown.
    pub vocabulary: u32,
    pub capabilities: Vec<Capability>,
    /// How the model marks its reasoning, where the adapter separates it from the answer.
    pub format: Option<Format>,
    /// Whether the model reasons, where the engine separates it.
    pub reasons: bool,
    /// Name of the model in requests to the engine.
    pub model: String,
}

impl Facts {
    /// Asks the running engine.
    pub async fn ask(engine: &Engine) -> Result<Self, Diagnostic> {
        let (client, settings) = (engine.client()?, engine.settings());
        let mut facts = Self {
            context: settings.context_length.unwrap_or(DEFAULT_CONTEXT),
            slots: settings.slots,
            vocabulary: u32::MAX,
            capabilities: vec![Capability::Stream, Capability::Constraints],
            format: None,
            reasons: false,
            model: settings.engine_model.clone(),
        };
        match settings.kind {
            EngineKind::LlamaCpp => facts.ask_llama_cpp(&client).await?,
            EngineKind::Vllm => facts.ask_vllm(&client).await?,
            EngineKind::Ollama => facts.ask_ollama(&client, settings).await?,
            EngineKind::Openai => facts.ask_openai(&client).await?,
        }
        if settings.kind != EngineKind::Ollama && facts.embeds(&client).await {
            facts.capabilities.push(Capability::Embed);
        }
        facts.slots = facts.slots.clamp(1, settings.slots);
        Ok(facts)
    }

    pub fn can(&self, capability: Capability) -> bool {
        self.capabilities.contains(&capability)
    }

    async fn ask_llama_cpp(&mut self, client: &RestClient) -> Result<(), Diagnostic> {
        let props: Value = client.get("/props").await?;
        let models: Value = client.get("/v1/models").await.unwrap_or_default();
        let meta = &models["data"][0]["meta"];
        self.context =
            count(&props["default_generation_settings"]["n_ctx"]).unwrap_or(self.context);
        self.slots = count(&props["total_slots"]).unwrap_or(self.slots);
        self.vocabulary = count(&meta["n_vocab"]).unwrap_or(self.vocabulary);
        let template = props["chat_template"].as_str().unwrap_or_default();
        self.format = Format::detect(template, |_| false);
        self.reasons = self.format.is_some();
        self.capabilities.extend([
            Capability::Logprobs,
            Capability::Tokenize,
            Capability::Continue,
        ]);
        // Versions that do not say it call tools in a format of their own for every template.
        if props["chat_template_caps"]["supports_tools"] != false {
            self.capabilities.push(Capability::Tools);
        }
        if props["modalities"]["vision"] == true {
            self.capabilities.push(Capability::Vision);
        }
        Ok(())
    }

    async fn ask_vllm(&mut self, client: &RestClient) -> Result<(), Diagnostic> {
        self.find_model(client).await?;
        self.reasons = true;
        self.capabilities.extend([
            Capability::Logprobs,
            Capability::Tokenize,
            Capability::Continue,
            Capability::Tools,
            Capability::Vision,
        ]);
        Ok(())
    }

    async fn ask_openai(&mut self, client: &RestClient) -> Result<(), Diagnostic> {
        self.find_model(client).await?;
        self.reasons = true;
        self.capabilities
            .extend([Capability::Logprobs, Capability::Tools, Capability::Vision]);
        Ok(())
    }

    /// Finds the model among those of the engine. The only model of an engine is meant, whatever
    /// the engine calls it.
    async fn find_model(&mut self, client: &RestClient) -> Result<(), Diagnostic> {
        let list: Value = client.get("/v1/models").await?;
        let models = list["data"].as_array().cloned().unwrap_or_default();
        let named = models.iter().find(|model| model["id"] == self.model);
        let Some(model) = named.or(if models.len() == 1 {
            models.first()
        } else {
            None
        }) else {
            let names = models.iter().filter_map(|model| model["id"].as_str());
            return Err(errors::no_model(&self.model, names));
        };
        model["id"]
            .as_str()
            .unwrap_or_default()
            .clone_into(&mut self.model);
        // vLLM, llama.cpp, and what several other servers call it.
        for value in [
            &model["max_model_len"],
            &model["meta"]["n_ctx"],
            &model["context_length"],
        ] {
            if let Some(context) = count(value) {
                self.context = context;
                break;
            }
        }
        Ok(())
    }

    /// Loads the model, and asks for its features (`/api/show`) and its context (`/api/ps`).
    async fn ask_ollama(
        &mut self,
        client: &RestClient,
        settings: &AdapterSettings,
    ) -> Result<(), Diagnostic> {
        let model = self.model.strip_prefix("ollama:").unwrap_or(&self.model);
        self.model = String::from(model);
        let name = json!({"model": self.model});
        let shown: Value = client.post("/api/show", &name, LIMIT).await?;
        let features = shown["capabilities"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let has = |feature: &str| features.iter().any(|f| f == feature);
        let completes = has("completion") || features.is_empty();
        if completes {
            let mut load = json!({"model": self.model, "keep_alive": -1});
            if let Some(context) = settings.context_length {
                load["options"] = json!({"num_ctx": context});
            }
            load["stream"] = json!(false);
            let _: Value = client.post("/api/generate", &load, LOAD_LIMIT).await?;
        }
        let running: Value = client.get("/api/ps").await.unwrap_or_default();
        let mut loaded = running["models"].as_array().into_iter().flatten();
        let loaded = loaded.find(|m| m["model"] == self.model || m["name"] == self.model);
        let loaded = loaded.and_then(|m| count(&m["context_length"]));
        self.context = settings.context_length.or(loaded).unwrap_or(self.context);
        self.reasons = has("thinking");
        for (feature, capability) in [
            ("tools", Capability::Tools),
            ("vision", Capability::Vision),
            ("embedding", Capability::Embed),
        ] {
            if has(feature) {
                self.capabilities.push(capability);
            }
        }
        let embeds = !completes || has("embedding");
        if embeds && !self.can(Capability::Embed) {
            self.capabilities.push(Capability::Embed);
        }
        Ok(())
    }

    /// Whether the engine computes embeddings with this model.
    async fn embeds(&self, client: &RestClient) -> bool {
        let input = json!({"input": "a", "model": self.model});
        let answer = client.post::<Value>("/v1/embeddings", &input, LIMIT).await;
        answer.is_ok_and(|answer| answer["data"][0]["embedding"].is_array())
    }
}
