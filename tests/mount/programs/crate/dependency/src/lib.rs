pub fn greeting() -> &'static str {
    "built"
}
