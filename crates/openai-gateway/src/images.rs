//! Images in messages. They arrive in the request itself: the queen downloads nothing.

use diagnostics::Diagnostic;
use openapi_schema::{SchemaRef, object, optional, pattern, required, schema_types, strings};
use serde_json::Value;
use worker_contract::Image;

use crate::errors::{must_be, must_be_string, remote_image, stored_image, unsupported};

/// Pattern of bytes in Base64.
const BASE64_PATTERN: &str =
    "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})$";
/// Pattern of a data URL with an image.
const DATA_URL_PATTERN: &str = "^data:image/[a-z0-9.+-]+;base64,\
     ([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})$";

schema_types! {
    /// Bytes of an image in Base64.
    Base64Image = base64();
}

pub(crate) fn base64() -> SchemaRef {
    pattern(BASE64_PATTERN)
}

/// Image as a data URL in Base64.
pub(crate) fn data_url() -> SchemaRef {
    pattern(DATA_URL_PATTERN)
}

/// Part of a message of type `image_url`.
pub(crate) fn image_url_part() -> SchemaRef {
    object([
        required("type", strings(["image_url"])),
        required("image_url", object([required("url", data_url())])),
    ])
}

/// Part of a message of type `input_image`.
pub(crate) fn input_image_part() -> SchemaRef {
    object([
        required("type", strings(["input_image"])),
        required("image_url", data_url()),
    ])
}

/// Block of Anthropic's type `image`.
pub(crate) fn image_block() -> SchemaRef {
    let source = object([
        required("type", strings(["base64"])),
        optional("media_type", pattern("^image/[a-z0-9.+-]+$")),
        required("data", base64()),
    ]);
    object([
        required("type", strings(["image"])),
        required("source", source),
    ])
}

/// Reads the parts of type `image_url` of a content; other parts are left out.
pub(crate) fn of_image_urls(
    param: &str,
    content: Option<&Value>,
) -> Result<Vec<Image>, Diagnostic> {
    let parts = parts_of_type(param, content, "image_url");
    let image = |(param, part): (String, &Value)| {
        let url = part.get("image_url").and_then(|image| image.get("url"));
        from_url(&param, "image_url.url", url)
    };
    parts.map(image).collect()
}

/// Reads the parts of type `input_image` of a content; other parts are left out.
pub(crate) fn of_input_images(
    param: &str,
    content: Option<&Value>,
) -> Result<Vec<Image>, Diagnostic> {
    let parts = parts_of_type(param, content, "input_image");
    let image = |(param, part): (String, &Value)| {
        if part.get("file_id").is_some_and(|id| !id.is_null()) {
            return Err(stored_image(&param));
        }
        from_url(&param, "image_url", part.get("image_url"))
    };
    parts.map(image).collect()
}

fn parts_of_type<'a>(
    param: &str,
    content: Option<&'a Value>,
    kind: &'static str,
) -> impl Iterator<Item = (String, &'a Value)> {
    let parts = content.and_then(Value::as_array).into_iter().flatten();
    let param = param.to_owned();
    parts
        .enumerate()
        .filter(move |(_, part)| part.get("type").is_some_and(|found| found == kind))
        .map(move |(i, part)| (format!("{param}[{i}]"), part))
}

/// Reads a block of Anthropic's type `image`.
pub(crate) fn of_block(param: &str, block: &Value) -> Result<Image, Diagnostic> {
    let source = block.get("source").unwrap_or(&Value::Null);
    match source.get("type").and_then(Value::as_str) {
        Some("base64") => {
            let media_type = source.get("media_type").and_then(Value::as_str);
            if media_type.is_some_and(|kind| !kind.starts_with("image/")) {
                return Err(must_be(
                    &format!("{param}.source.media_type"),
                    "an image type",
                ));
            }
            let data = source.get("data").and_then(Value::as_str);
            from_base64(&format!("{param}.source.data"), data, media_type)
        }
        Some("url") => Err(remote_image(param)),
        Some("file") => Err(stored_image(param)),
        Some(kind) => Err(unsupported(
            &format!("{param}.source.type"),
            &Value::from(kind),
        )),
        None => Err(must_be_string(&format!("{param}.source.type"))),
    }
}

/// Reads Ollama's images: Base64 without a type.
pub(crate) fn of_base64s(param: &str, images: &[Value]) -> Result<Vec<Image>, Diagnostic> {
    let images = images.iter().enumerate();
    images
        .map(|(i, data)| from_base64(&format!("{param}[{i}]"), data.as_str(), None))
        .collect()
}

fn from_url(param: &str, field: &str, url: Option<&Value>) -> Result<Image, Diagnostic> {
    let Some(url) = url.and_then(Value::as_str) else {
        return Err(must_be_string(&format!("{param}.{field}")));
    };
    if ["http://", "https://"].iter().any(|s| url.starts_with(s)) {
        return Err(remote_image(param));
    }
    let parsed = url
        .strip_prefix("data:")
        .and_then(|rest| rest.split_once(";base64,"))
        .filter(|(media_type, _)| media_type.starts_with("image/"));
    let Some((media_type, data)) = parsed else {
        let form = "a data URL such as `data:image/png;base64,…`";
        return Err(must_be(&format!("{param}.{field}"), form));
    };
    from_base64(&format!("{param}.{field}"), Some(data), Some(media_type))
}

fn from_base64(
    param: &str,
    data: Option<&str>,
    media_type: Option<&str>,
) -> Result<Image, Diagnostic> {
    let data = data.filter(|data| is_base64(data));
    let data = data.ok_or_else(|| must_be(param, "an image in Base64"))?;
    Ok(Image {
        media_type: media_type.map(str::to_owned),
        data: data.to_owned(),
    })
}

fn is_base64(text: &str) -> bool {
    let unpadded = text.strip_suffix("==").or(text.strip_suffix('='));
    let digits = unpadded.unwrap_or(text);
    let is_digit = |c: u8| c.is_ascii_alphanumeric() || c == b'+' || c == b'/';
    !text.is_empty() && text.len().is_multiple_of(4) && digits.bytes().all(is_digit)
}

#[cfg(test)]
mod tests {
    use diagnostics::Code;
    use serde_json::json;

    use super::*;

    fn image(media_type: Option<&str>) -> Image {
        Image {
            media_type: media_type.map(str::to_owned),
            data: "aGk=".to_owned(),
        }
    }

    #[test]
    fn each_dialect_has_its_form_of_an_image() {
        let url = "data:image/png;base64,aGk=";
        let content = json!([{"type": "text", "text": "x"},
            {"type": "image_url", "image_url": {"url": url, "detail": "low"}},
            {"type": "input_image", "image_url": url}]);
        let png = image(Some("image/png"));
        assert_eq!(
            of_image_urls("c", Some(&content)).unwrap(),
            std::slice::from_ref(&png)
        );
        assert_eq!(
            of_input_images("c", Some(&content)).unwrap(),
            std::slice::from_ref(&png)
        );
        let block = json!({"type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}});
        assert_eq!(of_block("c", &block).unwrap(), png);
        assert_eq!(of_base64s("c", &[json!("aGk=")]).unwrap(), [image(None)]);
    }

    #[test]
    fn an_image_that_is_not_in_the_request_is_refused() {
        let url = |url: &str| {
            let content = json!([{"type": "image_url", "image_url": {"url": url}}]);
            of_image_urls("c", Some(&content)).unwrap_err()
        };
        let remote = url("https://x/a.png");
        assert_eq!(remote.code, Code::UnsupportedParameter);
        assert!(remote.message.contains("downloads nothing"), "{remote}");
        for wrong in [
            "",
            "x",
            "data:image/png,x",
            "data:text/plain;base64,aGk=",
            "data:image/png;base64,a",
        ] {
            let error = url(wrong);
            assert_eq!(error.code, Code::InvalidRequest, "{wrong}");
            assert_eq!(error.param.as_deref(), Some("c[0].image_url.url"));
        }
        for data in [
            json!(7),
            json!(""),
            json!("a"),
            json!("aGk"),
            json!("a=Gk"),
            json!("===="),
        ] {
            assert!(
                of_base64s("c", std::slice::from_ref(&data)).is_err(),
                "{data}"
            );
        }
    }
}
